"""Who has which number, as WhatsApp told it, and which alias is whose: remembered per connection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.ids import ConnectionId
from shared.domain.jid import Jid, Person, Server, spellings_of

_SQL = load("known_numbers")

_DAY_S: Final = 86_400
# A number that is there stays for long; one that is not may join at any moment.
PERSON_S: Final = 30 * _DAY_S
NOBODY_S: Final = 300
# A message that comes in says anew who has a number: often enough to write it down once a day.
_SEEN_S: Final = _DAY_S


@dataclass(frozen=True, slots=True)
class Alias:
    """A person's alias, and the JID with the number; `group` is where the person wrote, when it was in one."""

    connection_id: ConnectionId
    lid: str
    jid: str
    group: str | None = None


async def recall(
    connection: Connection, connection_id: ConnectionId, phones: Sequence[str]
) -> dict[str, Person | None]:
    """Who has each of these numbers, None: nobody. Those of which nothing is known, or nothing lately, are missing."""
    rows = await connection.fetch(_SQL.recall, connection_id, list(phones), PERSON_S, NOBODY_S)
    return {row["phone"]: None if row["jid"] is None else Person(row["jid"], row["lid"]) for row in rows}


async def learn(connection: Connection, connection_id: ConnectionId, answers: Mapping[str, Person | None]) -> None:
    """Remember what WhatsApp answered just now, and the aliases that came with it."""
    people = list(answers.values())
    await connection.execute(
        _SQL.learn,
        [connection_id] * len(answers),
        list(answers),
        [None if one is None else one.jid for one in people],
        [None if one is None else one.lid for one in people],
        0,
    )
    await _learn_aliases(connection, [Alias(connection_id, one.lid, one.jid) for one in people if one and one.lid])


async def learn_seen(connection: Connection, seen: Sequence[Alias]) -> None:
    """Remember who a message that came in said to be the same person; what is known for less than a day is kept."""
    if not seen:
        return
    numbers = [one for one in seen if one.jid.endswith(f"@{Server.PERSON}")]
    await connection.execute(
        _SQL.learn,
        [one.connection_id for one in numbers],
        [one.jid.partition("@")[0] for one in numbers],
        [one.jid for one in numbers],
        [one.lid for one in numbers],
        _SEEN_S,
    )
    # After the numbers, as `learn` does it: whoever learns takes its locks in one order.
    await _learn_aliases(connection, seen)
    if writers := [one for one in seen if one.group is not None]:
        await connection.execute(
            _SQL.fold_writers,
            [one.connection_id for one in writers],
            [one.lid for one in writers],
            [one.jid for one in writers],
            [one.group for one in writers],
        )


async def _learn_aliases(connection: Connection, seen: Sequence[Alias]) -> None:
    news = await connection.fetch(
        _SQL.learn_aliases,
        [one.connection_id for one in seen if one.lid != one.jid],
        [one.lid for one in seen if one.lid != one.jid],
        [one.jid for one in seen if one.lid != one.jid],
    )
    if news:
        connections, aliases, chats = (
            [row[name] for row in news] for name in ("connection_id", "alias_jid", "chat_jid")
        )
        await connection.execute(_SQL.fold_chats, connections, aliases, chats)
        await connection.execute(_SQL.fold_holds, connections, aliases)


async def forget(connection: Connection, connection_id: ConnectionId, phones: Sequence[str]) -> None:
    """WhatsApp says otherwise now: it is asked again before the next send."""
    await connection.execute(_SQL.forget, connection_id, list(phones))


async def numbers_of(
    connection: Connection, lids: Sequence[tuple[ConnectionId, str]]
) -> dict[tuple[ConnectionId, str], str]:
    """The JID with the number of each alias that is known."""
    rows = await connection.fetch(_SQL.numbers_of, [one for one, _ in lids], [lid for _, lid in lids])
    return {(row["connection_id"], row["alias_jid"]): row["chat_jid"] for row in rows}


async def names_of(connection: Connection, connection_id: UUID, chat: Jid) -> list[str]:
    """Every JID under which messages with this chat may be kept: its spellings, what WhatsApp names it, its alias."""
    phones = spellings_of(chat.phone) if chat.phone is not None else ()
    jids = [str(Jid(phone, Server.PERSON)) for phone in phones] or [str(chat)]
    first = [row["jid"] for row in await connection.fetch(_SQL.names_of, connection_id, jids, list(phones))]
    # Once more: a JID that WhatsApp named has an alias, and an alias a number.
    rows = await connection.fetch(_SQL.names_of, connection_id, first, [])
    return sorted(row["jid"] for row in rows)


async def readdress(connection: Connection, message_id: UUID, jid: str) -> None:
    """The message goes to this JID: its chat, before it is sent."""
    phone = jid.partition("@")[0] if jid.endswith(f"@{Server.PERSON}") else None
    await connection.execute(_SQL.readdress, message_id, jid, phone)
