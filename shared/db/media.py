"""The media tables: whose files there are, and where their bytes lie. Functions take a connection."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.media import MediaId, MediaOrigin, MediaState
from shared.domain.writes import ExpectMedia, SettleMedia

_SQL: Final = load("media")


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """One file as its row has it. `object_key`, `sha256` and `size` (bytes) are set once it is stored.

    `connection_id` None: it belongs to no connection of its tenant. `source_sealed`: of a pending one, how to fetch it.
    """

    id: MediaId
    tenant_id: TenantId
    connection_id: ConnectionId | None
    origin: MediaOrigin
    state: MediaState
    object_key: str | None
    sha256: bytes | None
    size: int | None
    mimetype: str
    filename: str | None
    source_sealed: bytes | None
    message_id: MessageId | None
    error: dict[str, Any] | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMedium:
    """A file that is about to be stored. The same `id` again prolongs the row that has it.

    `tenant_id` None: the connection's.
    """

    id: MediaId
    tenant_id: TenantId | None
    connection_id: ConnectionId | None
    origin: MediaOrigin
    mimetype: str
    filename: str | None


async def claim_object(connection: Connection, sha256: bytes, placed: str | None) -> str | None:
    """The key of the object that holds this content, to be referred to in this transaction.

    `placed` is an object that the caller announced and put; it is kept unless another one was meanwhile. None: put the
    bytes first.
    """
    await connection.execute(_SQL.lock_content, sha256)
    kept: str | None = await connection.fetchval(_SQL.share_kept, sha256)
    if placed is None:
        return kept
    if kept is not None:
        await connection.execute(_SQL.doom_object, placed)
        return kept
    key: str | None = await connection.fetchval(_SQL.keep_object, placed)
    return key


async def announce_object(connection: Connection, key: str, *, sha256: bytes, size: int) -> None:
    await connection.execute(_SQL.announce_object, key, sha256, size)


async def insert(
    connection: Connection, new: NewMedium, *, object_key: str, sha256: bytes, size: int, days: int
) -> Medium | None:
    """Insert a stored file; None when its tenant has no such connection, or it is deleted."""
    row = await connection.fetchrow(
        _SQL.insert,
        new.id,
        new.tenant_id,
        new.connection_id,
        new.origin,
        object_key,
        sha256,
        size,
        new.mimetype,
        new.filename,
        days,
    )
    return _medium(row)


async def get(
    connection: Connection, media_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> Medium | None:
    """The file, or None when there is none for this caller; `allowed` None: all of the tenant's."""
    row = await connection.fetchrow(_SQL.get, media_id, tenant_id, allowed)
    return _medium(row)


async def find(connection: Connection, media_id: UUID) -> Medium | None:
    """The file, whoever's it is: for a worker or a host, which a job told its id."""
    row = await connection.fetchrow(_SQL.find, media_id)
    return _medium(row)


async def usable(
    connection: Connection, ids: Sequence[UUID], *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> dict[UUID, str]:
    """The mimetypes of those that are stored and the caller's; they stay for an hour at least."""
    rows = await connection.fetch(_SQL.usable, list(ids), tenant_id, allowed)
    return {row["id"]: row["mimetype"] for row in rows}


async def give_to_message(connection: Connection, message_id: MessageId, payload: Mapping[str, Any]) -> None:
    """Add to what a message says which file it has; nothing of it is sent by `base64` any more."""
    await connection.execute(_SQL.give_to_message, message_id, dict(payload))


async def delete(
    connection: Connection, media_id: UUID, *, tenant_id: TenantId, allowed: Sequence[ConnectionId] | None
) -> bool | None:
    """Delete the file unless a waiting message needs it, and say whether; None when there is none for this caller."""
    if await connection.fetchval(_SQL.lock, [media_id], tenant_id, allowed) is None:
        return None
    return await _delete_locked(connection, [media_id]) == 1


async def delete_expired(connection: Connection, *, limit: int) -> int:
    """Delete a batch of those whose time is over, and return its size; 0: none is left.

    To be called in a transaction. What a waiting message needs stays until it has left.
    """
    ids = [row["id"] for row in await connection.fetch(_SQL.lock_expired, limit)]
    return await _delete_locked(connection, ids) if ids else 0


async def _delete_locked(connection: Connection, ids: Sequence[UUID]) -> int:
    rows = await connection.fetch(_SQL.delete_unneeded, list(ids))
    keys = sorted({row["object_key"] for row in rows if row["object_key"] is not None})
    if keys:
        await connection.execute(_SQL.lock_objects, keys)
        await connection.execute(_SQL.doom_unreferenced, keys)
    return len(rows)


async def doom_abandoned(connection: Connection, *, older_than_s: float, limit: int) -> int:
    """Give up a batch of objects whose uploader must be dead by now; the number."""
    answer = await connection.execute(_SQL.doom_abandoned, older_than_s, limit)
    return int(answer.rpartition(" ")[2])


async def doomed(connection: Connection, *, limit: int) -> list[str]:
    """Keys of objects whose bytes are to be deleted: nobody refers to them, and nobody ever will again."""
    return [row["key"] for row in await connection.fetch(_SQL.doomed, limit)]


async def postpone_doomed(connection: Connection, key: str) -> None:
    await connection.execute(_SQL.postpone_doomed, key)


async def forget_objects(connection: Connection, keys: Sequence[str]) -> None:
    await connection.execute(_SQL.forget_objects, list(keys))


async def expect(connection: Connection, writes: Sequence[ExpectMedia]) -> None:
    """Note files that are to be fetched, each once; their messages are stored already in this transaction."""
    await connection.execute(
        _SQL.expect,
        [w.media_id for w in writes],
        [w.connection_id for w in writes],
        [w.wire_id for w in writes],
        [w.jid for w in writes],
        [w.sender_jid for w in writes],
        [w.mimetype for w in writes],
        [w.filename for w in writes],
        [w.sha256 for w in writes],
        [w.size for w in writes],
        [w.source_sealed for w in writes],
        [w.keep_days for w in writes],
    )


async def is_of_deleted(connection: Connection, media_id: MediaId) -> bool:
    """Whether its connection is deleted, so that nothing will ever be fetched through it again."""
    return bool(await connection.fetchval(_SQL.is_of_deleted, media_id))


async def store_expected(
    connection: Connection, media_id: MediaId, *, object_key: str, sha256: bytes, size: int, mimetype: str
) -> bool:
    """Record where a file that was expected lies; False: it was deleted meanwhile, or is stored already."""
    found = await connection.fetchval(_SQL.store_expected, media_id, object_key, sha256, size, mimetype)
    return found is not None


async def settle(connection: Connection, writes: Sequence[SettleMedia]) -> set[ConnectionId]:
    """Tell messages what became of their files, each once; returns the connections to fan out."""
    failed = [(w.media_id, asdict(w.error)) for w in writes if w.error is not None]
    if failed:
        await connection.execute(_SQL.fail_expected, [one for one, _ in failed], [error for _, error in failed])
    rows = await connection.fetch(_SQL.tell_messages, [w.media_id for w in writes])
    return {row["connection_id"] for row in rows if row["wanted"]}


def _medium(row: Record | None) -> Medium | None:
    if row is None:
        return None
    return Medium(**{**row, "state": MediaState(row["state"]), "origin": MediaOrigin(row["origin"])})
