"""How connections are slowed: what is kept about each, and how the writes about it are applied."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.ids import ConnectionId
from shared.domain.pace_writes import ClearRefusals, HoldMessage, RestrictChat, RestSession, SlowSession
from shared.domain.pacing import MOST_SLOW_LEVELS, RECOVERS_EVERY_S, SLOWED_FOR_S, Pace, Profile, Slowed
from shared.domain.send_gate import SendGate, SoFar

_SQL = load("paces")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A connection's row about its pace, as it is now; one that has none is as if it were empty."""

    connection_id: ConnectionId
    config: dict[str, Any]
    is_deleted: bool
    service_rate: int
    now: datetime
    profile: Profile | None
    min_gap_s: float
    so_far: SoFar


async def due(connection: Connection, *, limit: int) -> list[ConnectionId]:
    """Connections whose pace may change by now."""
    return [row["connection_id"] for row in await connection.fetch(_SQL.due, limit)]


async def lock_free(connection: Connection, ids: Sequence[ConnectionId]) -> list[ConnectionId]:
    """Lock the groups of these connections, without those that another holds, and return whose they are."""
    return [row["connection_id"] for row in await connection.fetch(_SQL.lock_groups, [str(one) for one in ids])]


async def lock(connection: Connection, connection_id: ConnectionId) -> None:
    """Lock the group of a connection's sends; it is made when there is none."""
    await connection.execute(_SQL.make_group, str(connection_id))


async def read(connection: Connection, ids: Sequence[ConnectionId]) -> list[Kept]:
    """What is kept about these connections, whose groups the caller has locked. Those that are gone are left out."""
    await connection.execute(_SQL.lock_rows, list(ids))
    return [
        Kept(
            connection_id=row["id"],
            config=row["config"],
            is_deleted=row["is_deleted"],
            service_rate=row["service_rate"],
            now=row["now"],
            profile=None if row["profile"] is None else Profile(row["profile"]),
            min_gap_s=row["min_gap_s"] or 0.0,
            so_far=SoFar(
                paced_since=row["profile_since"],
                day=row["day"],
                sent_today=row["sent_today"],
                slowed=Slowed(level=row["slow_level"], held_until=row["held_until"]),
            ),
        )
        for row in await connection.fetch(_SQL.read, list(ids))
    ]


async def keep(
    connection: Connection,
    connection_id: ConnectionId,
    gate: SendGate,
    *,
    pace: Pace | None,
    profile: Profile | None,
    since: datetime | None,
) -> None:
    """Keep what a try needs to know, and when to look again; without either the row goes."""
    if pace is None and gate.look_at is None:
        await connection.execute(_SQL.forget, connection_id)
        return
    kept = pace or Pace(rate_per_minute=0)
    await connection.execute(
        _SQL.keep,
        connection_id,
        profile,
        since,
        kept.types,
        kept.jitter_s,
        kept.min_gap_s,
        gate.day_cap,
        gate.look_at,
    )


async def forget_gone(connection: Connection, ids: Sequence[ConnectionId]) -> None:
    """Drop the rows of connections that no longer exist."""
    await connection.execute(_SQL.forget_gone, list(ids))


async def begin_anew(connection: Connection, connection_id: ConnectionId) -> None:
    """Forget what another number has sent and was refused; the next sweep fits the group to that."""
    await connection.execute(_SQL.begin_anew, connection_id)


async def fit_group(connection: Connection, connection_id: ConnectionId, gate: SendGate) -> bool:
    """Set the group of a connection's sends, and say whether it has claimable work now."""
    return bool(
        await connection.fetchval(
            _SQL.fit_group, str(connection_id), list(gate.reasons), gate.rate_per_minute, gate.burst
        )
    )


async def lift_gaps(connection: Connection, connection_id: ConnectionId, *, limit: int) -> list[int]:
    """Let chats that were just written to be written to again; the jobs that waited for that, which are to be due."""
    await connection.execute(_SQL.lift_gaps, connection_id)
    return [row["pk"] for row in await connection.fetch(_SQL.waiting_for_gaps, connection_id, limit)]


async def lift_chat(connection: Connection, connection_id: ConnectionId, jid: str, *, limit: int) -> list[int] | None:
    """Let a restricted chat be written to again; the jobs that are to be due. None: it was not restricted."""
    if await connection.fetchrow(_SQL.lift_chat, connection_id, jid) is None:
        return None
    return [row["pk"] for row in await connection.fetch(_SQL.held_in_chat, connection_id, jid, limit)]


async def lift_heard(connection: Connection, chats: Collection[tuple[ConnectionId, str]]) -> bool:
    """Somebody wrote in these chats, so that a restriction may be over: write to them again. Whether jobs are due."""
    pks = [
        row["pk"]
        for row in await connection.fetch(_SQL.lift_heard, [one for one, _ in chats], [jid for _, jid in chats])
    ]
    return bool(pks) and bool(await connection.fetchval(_SQL.make_due, pks))


async def waiting_job(connection: Connection, pk: int) -> str | None:
    """The id of a job that waits; None: it runs, or has ended."""
    found: str | None = await connection.fetchval(_SQL.waiting_job, pk)
    return found


async def hold_messages(connection: Connection, writes: Sequence[HoldMessage]) -> set[ConnectionId]:
    """Have these messages wait; returns the connections of which webhooks are to be made."""
    rows = await connection.fetch(
        _SQL.hold_messages,
        [w.message_id for w in writes],
        [w.send_no for w in writes],
        [w.reason.value for w in writes],
        [{"code": w.error.code, "detail": w.error.detail, "retryable": w.error.retryable} for w in writes],
        [w.retry_in_s for w in writes],
    )
    return {row["connection_id"] for row in rows if row["wanted"]}


async def restrict_chats(connection: Connection, writes: Sequence[RestrictChat]) -> None:
    for write in writes:
        await connection.execute(_SQL.restrict_chat, write.message_id, write.for_s)


async def clear_refusals(connection: Connection, writes: Sequence[ClearRefusals]) -> None:
    for write in writes:
        await connection.execute(_SQL.clear_refusals, write.connection_id, write.jid)


async def slow_sessions(connection: Connection, writes: Sequence[SlowSession]) -> None:
    for write in writes:
        await connection.execute(
            _SQL.slow_session, write.connection_id, SLOWED_FOR_S, RECOVERS_EVERY_S, MOST_SLOW_LEVELS
        )


async def rest_sessions(connection: Connection, writes: Sequence[RestSession]) -> None:
    for write in writes:
        await connection.execute(_SQL.rest, str(write.connection_id), write.for_s)
