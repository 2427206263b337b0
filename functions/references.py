"""What an outbound message means by `message_id` and `reply_to`: another message, which must be on the wire first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from shared.db import known_numbers, references
from shared.db.pool import Pool
from shared.db.references import Meant
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.jid import Server, parse_jid
from shared.domain.message import SETTLED, MessageType
from shared.hosts.protocol import Quoted, Refused

_MEANS_ANOTHER: Final = frozenset({MessageType.REACTION, MessageType.EDIT, MessageType.REVOKE})


class Referring(Protocol):
    """A message that is about to be sent, as far as it can mean another one."""

    @property
    def id(self) -> MessageId: ...
    @property
    def connection_id(self) -> ConnectionId: ...
    @property
    def jid(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...
    @property
    def reply_to(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The payload as the host takes it, with wire ids in place of ours, and the message that is replied to."""

    payload: dict[str, Any]
    reply_to: Quoted | None = None


async def resolve(pool: Pool, message: Referring) -> Resolved | Refused:
    """Find what the message means, and record it; or say why it cannot be sent, and whether it can be later."""
    quoted = None
    if message.reply_to:
        meant = await _find(pool, message, message.reply_to, field="reply_to")
        if isinstance(meant, Refused):
            return meant
        quoted = _quoted(meant, is_here=await _is_same_chat(pool, message, meant))
    if message.type not in _MEANS_ANOTHER:
        return Resolved(payload=dict(message.payload), reply_to=quoted)
    meant = await _find(pool, message, message.payload["message_id"], field="payload.message_id")
    if isinstance(meant, Refused):
        return meant
    if refusal := _refusal(message, meant, is_here=await _is_same_chat(pool, message, meant)):
        return refusal
    assert meant.wa_message_id is not None, "_find saw to it"
    async with pool.acquire() as connection:
        await references.set_target(connection, message.id, meant.wa_message_id)
    key: dict[str, Any] = {"message_id": meant.wa_message_id, "from_me": meant.from_me}
    if not meant.from_me and _is_group(message.jid):
        key["participant"] = meant.sender_jid
    return Resolved(payload={**message.payload, **key}, reply_to=quoted)


async def _find(pool: Pool, message: Referring, reference: str, *, field: str) -> Meant | Refused:
    async with pool.acquire() as connection:
        meant = await references.find_message(connection, message.connection_id, reference, chat=message.jid)
    if meant is None:
        return Refused(
            code="NOT_FOUND", detail=f"No message of this connection is the one that {field} names.", permanent=True
        )
    if meant.wa_message_id is None:
        return Refused(
            code="TARGET_NOT_SENT",
            detail=f"The message that {field} names is {meant.status} and not on WhatsApp.",
            permanent=meant.status in SETTLED,
        )
    return meant


def _refusal(message: Referring, meant: Meant, *, is_here: bool) -> Refused | None:
    """Why WhatsApp would not take it, or every phone would ignore it."""
    detail = None
    if not is_here:
        detail = "The message that payload.message_id names is in another chat."
    elif message.type == MessageType.EDIT and not meant.from_me:
        detail = "Only messages of this number can be edited."
    elif message.type == MessageType.EDIT and meant.type != MessageType.TEXT:
        detail = f"Only a text can be edited, and this is of type {meant.type}."
    elif message.type == MessageType.REVOKE and not (meant.from_me or _is_group(message.jid)):
        detail = "Only messages of this number can be revoked, and in a group those of others by its admin."
    return None if detail is None else Refused(code="INVALID_TARGET", detail=detail, permanent=True)


def _quoted(meant: Meant, *, is_here: bool) -> Quoted:
    assert meant.wa_message_id is not None, "_find saw to it"
    return Quoted(
        wire_id=meant.wa_message_id,
        sender_jid=meant.sender_jid or meant.jid,
        text=meant.text,
        chat_jid=None if is_here else meant.jid,
    )


async def _is_same_chat(pool: Pool, message: Referring, meant: Meant) -> bool:
    """Whether both are in one chat, by whichever of its names."""
    if message.jid == meant.jid or _chat_key(message.jid) == _chat_key(meant.jid):
        return True
    if not any(jid.endswith(f"@{Server.ALIAS}") for jid in (message.jid, meant.jid)):
        return False
    async with pool.acquire() as connection:
        names = await known_numbers.names_of(connection, message.connection_id, parse_jid(message.jid))
    return meant.jid in names


def _is_group(jid: str) -> bool:
    return jid.endswith(f"@{Server.GROUP}")


def _chat_key(jid: str) -> str:
    try:
        return parse_jid(jid).chat_key
    except InvalidInput:
        return jid
