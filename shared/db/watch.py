"""Totals that only grow and alerts that are raised, kept in Postgres. Callers own the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import DEFAULT_TENANT

_SQL: Final = load("watch")

# Metric and labels → value.
Totals = dict[tuple[str, tuple[str, ...]], float]
# So many events are counted by one look after a long time without.
_MOST_EVENTS: Final = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """A rule that holds for a queue. `raised_at` None: not for long enough; `calm_since` None: it holds now."""

    since: datetime
    raised_at: datetime | None = None
    calm_since: datetime | None = None


async def take_turn(connection: Connection, *, every_s: float) -> Record | None:
    """The place up to which was counted, when it is this process's turn to look; until the commit nobody else's."""
    return await connection.fetchrow(_SQL.take_turn, every_s)


async def count(connection: Connection, turn: Record, *, bounds_s: Sequence[float], patience_s: float) -> None:
    """Add to the totals what ended and happened since `turn`; each job and event is counted once.

    What commits while a transaction older than it is open waits for that one, for at most `patience_s`.
    """
    until: datetime = await connection.fetchval(_SQL.horizon, patience_s)
    # The clock of another look may have been ahead of this one's horizon.
    until = max(until, turn["jobs_until"])
    await connection.execute(_SQL.count_jobs, turn["jobs_until"], until, list(bounds_s))
    events_until: int = turn["events_until"]
    if turn["seen_at"] < until:
        events_until = min(turn["events_seen"], events_until + _MOST_EVENTS)
        await connection.execute(_SQL.count_events, turn["events_until"], events_until)
    await connection.execute(_SQL.note_looked, until, events_until)
    await connection.execute(_SQL.note_seen)


async def add(connection: Connection, metric: str, labels: Sequence[str], value: float) -> None:
    """Add to a total that nobody counts by looking; in the transaction of what is counted."""
    await connection.execute(_SQL.add, metric, list(labels), value)


async def totals(connection: Connection) -> Totals:
    """Every total there is."""
    return {(row["metric"], tuple(row["labels"])): row["value"] for row in await connection.fetch(_SQL.totals)}


async def age_s(connection: Connection) -> float:
    """Seconds since somebody looked."""
    age: float = await connection.fetchval(_SQL.age)
    return age


async def connections_by_status(connection: Connection) -> dict[str, int]:
    return {row["status"]: row["connections"] for row in await connection.fetch(_SQL.connections_by_status)}


async def ready(connection: Connection) -> list[Record]:
    """`queue` (its id), `paused`, `jobs` that a free worker could start now, `duration_s` of the latest."""
    return await connection.fetch(_SQL.ready)


async def alerts(connection: Connection) -> tuple[dict[tuple[int, str], AlertState], datetime]:
    """The alerts by queue id and type, and the time by the database's clock."""
    rows = await connection.fetch(_SQL.alerts)
    found = {
        (row["queue"], row["type"]): AlertState(
            since=row["since"], raised_at=row["raised_at"], calm_since=row["calm_since"]
        )
        for row in rows
    }
    return found, await connection.fetchval(_SQL.now)


async def keep_alert(connection: Connection, queue_id: int, type_: str, state: AlertState | None) -> None:
    """Make the alert be like this; None forgets it."""
    if state is None:
        await connection.execute(_SQL.forget_alert, queue_id, type_)
    else:
        await connection.execute(_SQL.keep_alert, queue_id, type_, state.since, state.raised_at, state.calm_since)


async def is_a_lease_lost(connection: Connection, *, for_s: float) -> bool:
    """Whether a session's lease lapsed longer ago than that and nobody has taken it."""
    is_lost: bool = await connection.fetchval(_SQL.is_a_lease_lost, for_s)
    return is_lost


async def record_event(connection: Connection, type_: str, payload: Mapping[str, Any], *, severity: str) -> bool:
    """Append an event of no connection; True when webhooks are to be made of it."""
    wanted: bool = await connection.fetchval(_SQL.record_event, DEFAULT_TENANT, type_, severity, dict(payload))
    return wanted
