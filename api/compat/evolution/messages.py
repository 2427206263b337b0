"""`message/*` and what of `chat/*` is a message of ours: accepted as `POST …/send` accepts it, answered as they do."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Protocol
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from api.answers import answer
from api.auth import Principal, allowed
from api.compat.accepting import accept
from api.compat.door_route import Refused
from api.compat.evolution.inputs import instance_of
from api.compat.evolution.message_inputs import (
    DeleteMessage,
    SendAudio,
    SendContact,
    SendLocation,
    SendMedia,
    SendPoll,
    SendReaction,
    SendSticker,
    SendText,
    Translated,
    UpdateMessage,
)
from api.compat.evolution.route import PREFIX, EvolutionRoute
from api.resources import Resources
from api.routes.connections import Parts
from shared.db.api_keys import Scope
from shared.webhooks.formats.evolution_message import raw_message

router = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)

Writer = Annotated[Principal, Depends(allowed(Scope.MESSAGES_WRITE))]

# Theirs that ZapHub has no type for.
_UNSENT: Final = ("sendPtv", "sendStatus", "sendList", "sendButtons", "sendTemplate")


class Said(Protocol):
    """One of Evolution's messages."""

    def translated(self) -> Translated: ...


@router.post("/message/sendText/{instance}")
async def send_text(request: Request, instance: str, body: SendText, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendMedia/{instance}")
async def send_media(request: Request, instance: str, body: SendMedia, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendWhatsAppAudio/{instance}")
async def send_audio(request: Request, instance: str, body: SendAudio, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendSticker/{instance}")
async def send_sticker(request: Request, instance: str, body: SendSticker, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendLocation/{instance}")
async def send_location(request: Request, instance: str, body: SendLocation, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendContact/{instance}")
async def send_contact(request: Request, instance: str, body: SendContact, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendReaction/{instance}")
async def send_reaction(request: Request, instance: str, body: SendReaction, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/sendPoll/{instance}")
async def send_poll(request: Request, instance: str, body: SendPoll, caller: Writer, parts: Parts) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/chat/updateMessage/{instance}")
async def update_message(
    request: Request, instance: str, body: UpdateMessage, caller: Writer, parts: Parts
) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.delete("/chat/deleteMessageForEveryone/{instance}")
async def delete_message(
    request: Request, instance: str, body: DeleteMessage, caller: Writer, parts: Parts
) -> Response:
    return await _send(request, instance, body, caller, parts)


@router.post("/message/{kind}/{instance}")
async def refuse_kind(kind: str, instance: str, caller: Writer, parts: Parts) -> Response:
    """What they send and ZapHub does not is refused by its name, not by a path that is not there."""
    await instance_of(parts, caller, instance)
    if kind in _UNSENT:
        raise Refused(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", f"ZapHub has no message such as {kind} sends")
    raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There is no such call")


async def _send(request: Request, instance: str, body: Said, caller: Principal, parts: Resources) -> Response:
    connection = await instance_of(parts, caller, instance)
    said = body.translated()
    message = await accept(request, parts, caller, UUID(connection["id"]), said.fields, places=said.places)
    return answer(_shown(message), status=HTTPStatus.CREATED)


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    return raw_message(message, known={}, at=datetime.fromisoformat(message["created_at"]))
