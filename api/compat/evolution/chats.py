"""What of `chat/*` is no message: typing, reading, and asking which numbers are on WhatsApp."""

import json
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BeforeValidator, Field, model_validator

from api.answers import answer
from api.compat.accepting import told_at
from api.compat.evolution.inputs import Lenient, instance_of
from api.compat.evolution.message_inputs import ChatKey, recipient
from api.compat.evolution.messages import Writer
from api.compat.evolution.route import PREFIX, EvolutionRoute
from api.inputs import Recipient
from api.routes import chats
from api.routes.connections import Parts
from shared.domain.content import Phone

router = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)

_MOST: Final = 100


def _recipient(value: object) -> object:
    return recipient(value) if isinstance(value, str) else value


class ReadMessages(Lenient):
    messages: list[ChatKey] = Field(alias="readMessages", min_length=1, max_length=_MOST)


class CheckNumbers(Lenient):
    numbers: list[Phone] = Field(min_length=1, max_length=_MOST)


class SendPresence(Lenient):
    """`delay` is taken and does nothing: WhatsApp ends it by itself, or `paused` does."""

    number: Annotated[Recipient, BeforeValidator(_recipient)]
    presence: Literal["composing", "recording", "paused"]

    @model_validator(mode="before")
    @classmethod
    def _may_be_in_options(cls, value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was given
        """Their documentation has `presence` in `options`, their code beside `number`."""
        if isinstance(value, dict) and isinstance(value.get("options"), dict):
            return {**value["options"], **value}
        return value


@router.post("/chat/markMessageAsRead/{instance}")
async def mark_as_read(instance: str, body: ReadMessages, caller: Writer, parts: Parts) -> Response:
    found = await instance_of(parts, caller, instance)
    wanted = chats.MarkRead(message_ids=[one.id for one in body.messages])
    with told_at({"/message_ids": "/readMessages"}):
        await chats.mark_read(UUID(found["id"]), wanted, caller, parts)
    return answer({"message": "Read messages", "read": "success"}, status=HTTPStatus.CREATED)


@router.post("/chat/sendPresence/{instance}")
async def send_presence(instance: str, body: SendPresence, caller: Writer, parts: Parts) -> Response:
    found = await instance_of(parts, caller, instance)
    wanted = chats.ShowTyping.model_validate({"to": str(body.number), "state": body.presence})
    await chats.show_typing(UUID(found["id"]), wanted, caller, parts)
    return answer({"presence": body.presence}, status=HTTPStatus.CREATED)


@router.post("/chat/whatsappNumbers/{instance}")
async def check_numbers(instance: str, body: CheckNumbers, caller: Writer, parts: Parts) -> Response:
    found = await instance_of(parts, caller, instance)
    checked = await chats.check_numbers(UUID(found["id"]), chats.CheckNumbers(phones=body.numbers), caller, parts)
    shown = [
        {
            "jid": one["jid"] or f"{one['phone']}@s.whatsapp.net",
            "exists": one["on_whatsapp"],
            "number": one["phone"],
            **({"lid": one["lid"]} if one["lid"] else {}),
        }
        for one in json.loads(bytes(checked.body))["data"]
    ]
    return Response(json.dumps(shown), media_type="application/json")
