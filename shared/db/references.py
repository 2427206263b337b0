"""Finds the message that another one means: a reply, a reaction, an edit, a revocation, a vote."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.message import MessageStatus

_SQL = load("references")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The message that is meant, as the wire knows it; `wa_message_id` None: it never left, or not yet.

    `sender_jid` is its writer as the stanza named him, `text` what a quotation of it shows.
    """

    id: MessageId
    wa_message_id: WireId | None
    from_me: bool
    jid: str
    type: str
    status: MessageStatus
    sender_jid: str | None
    text: str


async def find_message(
    connection: Connection, connection_id: ConnectionId, reference: str, *, chat: str
) -> Meant | None:
    """The message whose `id`, `message_id` or `wa_message_id` this is; of several the one in `chat`, or the newest."""
    row = await connection.fetchrow(_SQL.find_message, connection_id, reference, _as_id(reference), chat)
    return Meant(**{**row, "status": MessageStatus(row["status"])}) if row else None


async def set_target(connection: Connection, message_id: MessageId, wire_id: WireId) -> None:
    """Record which message this one means. Twice is once."""
    await connection.execute(_SQL.set_target, message_id, wire_id)


async def options_of_polls(
    connection: Connection, polls: Sequence[tuple[ConnectionId, WireId]]
) -> list[list[str] | None]:
    """The options of each poll, in the same order; None for one that is not known."""
    rows = await connection.fetch(_SQL.options_of_polls, [c for c, _ in polls], [w for _, w in polls])
    known = {row["place"]: row["options"] for row in rows}
    return [known.get(place) for place in range(1, len(polls) + 1)]


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
