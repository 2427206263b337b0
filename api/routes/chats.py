"""What is not a message: show that somebody types, that messages were read; ask which numbers are on WhatsApp."""

from collections.abc import Sequence
from http import HTTPStatus
from math import ceil
from typing import Final, assert_never
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from api.answers import answer
from api.auth import Principal
from api.chat_shapes import NumbersChecked, ReadShown, TypingShown
from api.inputs import Input, Recipient
from api.json_body import JsonRoute
from api.problem_shapes import errors
from api.problems import Problem
from api.resources import Resources
from api.routes.connections import Parts
from api.routes.messages import Writer
from shared.db import lifecycle, references
from shared.db.hosts import Owner
from shared.domain.content import MessageRef, Phone
from shared.domain.errors import Conflict, HostUnreachable, InvalidInput, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.jid import Server
from shared.domain.session import SessionStatus
from shared.hosts import protocol
from shared.hosts.client import HostClient

router = APIRouter(tags=["chats"], route_class=JsonRoute)

_OF_A_PERSON: Final = (f"@{Server.PERSON}", f"@{Server.ALIAS}")


class ShowTyping(Input):
    to: Recipient = Field(description="a phone number with country code, or a JID")
    state: protocol.TypingState = Field(
        "composing", description="`paused` ends it; WhatsApp ends it by itself after some 25 s"
    )


class MarkRead(Input):
    message_ids: list[MessageRef] = Field(
        min_length=1, max_length=100, description="received messages, each by its `id` or `wa_message_id`"
    )


class CheckNumbers(Input):
    phones: list[Phone] = Field(min_length=1, max_length=100, description="with country code")


@router.post(
    "/connections/{connection_id}/typing",
    summary="Show a chat that somebody types",
    response_model=TypingShown,
    responses=errors(409),
)
async def show_typing(connection_id: UUID, body: ShowTyping, caller: Writer, parts: Parts) -> Response:
    """WhatsApp confirms nothing: 200 says that it was handed over."""
    hosts, owner = await _online(connection_id, caller, parts)
    command = protocol.Typing(connection_id=connection_id, epoch=owner.epoch, to=str(body.to), state=body.state)
    _expect_shown(await hosts.typing(owner, command))
    return answer({"to": str(body.to), "state": body.state})


@router.post(
    "/connections/{connection_id}/read",
    summary="Show the writers of messages that they were read",
    response_model=ReadShown,
    responses=errors(409),
)
async def mark_read(connection_id: UUID, body: MarkRead, caller: Writer, parts: Parts) -> Response:
    """WhatsApp confirms nothing: 200 says that it was handed over. Again is harmless."""
    hosts, owner = await _online(connection_id, caller, parts)
    meant = await _meant(parts, ConnectionId(connection_id), body.message_ids)
    command = protocol.Read(connection_id=connection_id, epoch=owner.epoch, messages=meant)
    _expect_shown(await hosts.read(owner, command))
    return answer({"count": len(body.message_ids)})


@router.post(
    "/connections/{connection_id}/contacts/check",
    summary="Ask which numbers are on WhatsApp",
    response_model=NumbersChecked,
    responses=errors(409),
)
async def check_numbers(connection_id: UUID, body: CheckNumbers, caller: Writer, parts: Parts) -> Response:
    """Each is asked in both spellings where its country has two. Answers are kept: 30 days, or 5 minutes for nobody's.

    Of the others at most 60 a minute are asked for a connection: who asks for many is taken for a bulk sender.
    """
    hosts, owner = await _online(connection_id, caller, parts)
    found = await hosts.check(
        owner, protocol.Check(connection_id=connection_id, epoch=owner.epoch, phones=list(dict.fromkeys(body.phones)))
    )
    match found:
        case protocol.Checked():
            rows = [
                {
                    "phone": phone,
                    "on_whatsapp": found.on_whatsapp[phone],
                    "jid": found.jids.get(phone),
                    "lid": found.lids.get(phone),
                }
                for phone in body.phones
            ]
            return answer({"data": rows})
        case protocol.Refused() | protocol.NotOwner() | protocol.NotConnected():
            raise _refusal(found)
        case _:
            assert_never(found)


async def _online(connection_id: UUID, caller: Principal, parts: Resources) -> tuple[HostClient, Owner]:
    """Who can be asked now. Raises NotFound, Conflict when the connection is not online, HostUnreachable."""
    view = await lifecycle.pairing(
        parts.queues.pool, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    if view is None:
        raise NotFound("There is no such connection.")
    if view.status is not SessionStatus.CONNECTED:
        raise _offline()
    if parts.hosts is None:
        raise HostUnreachable("The API cannot ask a session host: ZAPHUB_HOST_TOKEN is not set.")
    owner = await parts.hosts.owner(ConnectionId(connection_id))
    if owner is None:
        raise HostUnreachable("No session host holds the connection now; one will take it soon.")
    return parts.hosts, owner


async def _meant(parts: Resources, session: ConnectionId, ids: Sequence[str]) -> list[protocol.ReadFrom]:
    """The messages by chat and writer, as one receipt names them."""
    by_writer: dict[tuple[str, str], list[str]] = {}
    async with parts.queues.pool.acquire() as connection:
        for index, reference in enumerate(ids):
            found = await references.find_message(connection, session, reference, chat="")
            if found is None or found.from_me or found.wa_message_id is None:
                raise InvalidInput("This connection has received no such message.", pointer=f"/message_ids/{index}")
            # By the name that its stanza had, as phones answer to that: a person's chat is named like its writer.
            # Of what was written for many, in a group, a status or a channel, the writer's own chat knows nothing.
            writer = found.sender_jid or found.jid
            chat = writer if found.jid.endswith(_OF_A_PERSON) else found.jid
            by_writer.setdefault((chat, writer), []).append(found.wa_message_id)
    return [
        protocol.ReadFrom.model_validate({"chat": chat, "sender": sender, "wire_ids": wire_ids})
        for (chat, sender), wire_ids in by_writer.items()
    ]


def _expect_shown(found: protocol.ShowAnswer) -> None:
    if not isinstance(found, protocol.Shown):
        raise _refusal(found)


def _refusal(found: protocol.Refused | protocol.NotOwner | protocol.NotConnected) -> Exception:
    match found:
        case protocol.Refused(code="RATE_LIMITED", detail=detail, retry_after_s=retry_after_s):
            headers = {"Retry-After": str(max(ceil(retry_after_s or 1.0), 1))}
            return Problem(HTTPStatus.TOO_MANY_REQUESTS, "RATE_LIMITED", detail, retryable=True, headers=headers)
        case protocol.Refused(detail=detail):
            return HostUnreachable(f"WhatsApp was not reached: {detail}")
        case protocol.NotOwner():
            return HostUnreachable("The connection has just moved to another session host.")
        case protocol.NotConnected():
            return _offline()
        case _:
            assert_never(found)


def _offline() -> Conflict:
    return Conflict("The connection is not online now, and this cannot wait.", code="CONNECTION_OFFLINE")
