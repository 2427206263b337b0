"""End a batch of claims: the outcomes' writes and the jobs' rows in one transaction, or one by one if that fails."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog

from shared.db.pool import AWAY, COLLISION, Connection
from shared.db.sql import load
from shared.domain.jobs import QueueName
from shared.domain.outcome import Failure, Retry
from shared.domain.writes import MoveConnection
from shared.queues import ledger
from shared.queues.ledger import Finished, FinishKind
from shared.queues.registry import Works
from shared.queues.runner import Ending, conclude
from shared.queues.runtime import Queues, retry_collisions

_sql: Final = load("drain")

log = structlog.get_logger(__name__)


async def finish_all(queues: Queues, connection: Connection, works: Works, endings: Sequence[Ending]) -> Finished:
    """Commit these endings; what is not in `accepted` had lost its claim, and of its writes only facts were kept.

    One ending that the database refuses spoils no other: it becomes a failed try with that error. Raises one of `AWAY`
    when Postgres does not answer; calling again is safe.
    """
    try:
        return await retry_collisions(lambda: _finish(queues, connection, endings))
    except AWAY:
        raise
    except Exception as error:  # noqa: BLE001 - a handler's values may be wrong in any way; the others must go on
        if len(endings) > 1:
            log.warning("finish_batch_failed", jobs=len(endings), error=type(error).__name__)
    return await finish_each(queues, connection, works, endings)


async def finish_each(
    queues: Queues, connection: Connection, works: Works, endings: Sequence[Ending], *, doubt_away: bool = False
) -> Finished:
    """As `finish_all`, a transaction for each. `doubt_away`: that Postgres is away is taken as the ending's fault."""
    total = Finished()
    due = []
    for end in endings:
        one = await _finish_one(queues, connection, works, end, doubt_away=doubt_away)
        total.accepted.update(one.accepted)
        total.dead.update(one.dead)
        total.ready.update(one.ready)
        due += [one.next_due_s] if one.next_due_s is not None else []
    return Finished(accepted=total.accepted, dead=total.dead, ready=total.ready, next_due_s=min(due, default=None))


async def _finish_one(
    queues: Queues, connection: Connection, works: Works, end: Ending, *, doubt_away: bool
) -> Finished:
    try:
        return await retry_collisions(lambda: _finish(queues, connection, [end]))
    except Exception as error:
        if isinstance(error, (*AWAY, *COLLISION)) and not doubt_away:
            raise
        log.exception("job_finish_failed", job_id=end.job.job_id, queue=end.job.queue.value, error=type(error).__name__)
        failure = Failure(code="INTERNAL", detail=f"recording the outcome failed: {type(error).__name__}")
    spoiled = conclude(
        works[end.job.queue], end.job, Retry(failure=failure), has_raised=True, duration_s=end.duration_s
    )
    for writes in ((*end.facts, *spoiled.writes), ()):
        try:
            return await retry_collisions(lambda: _finish(queues, connection, [replace(spoiled, writes=writes)]))  # noqa: B023
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - as above; the last round writes nothing of the handler's
            log.warning("job_facts_failed", job_id=end.job.job_id, error=type(error).__name__)
    return Finished()


async def _finish(queues: Queues, connection: Connection, endings: Sequence[Ending]) -> Finished:
    parks = [end.job.group for end in endings if _parks_a_session(end)]
    if not parks and not any(end.writes for end in endings):
        return await ledger.finish(connection, [end.finish for end in endings])
    async with queues.transaction(connection) as tx:
        holding = await _lock(connection, endings, parks)
        await tx.apply([write for end in endings for write in (end.writes if end.job.fence in holding else end.facts)])
        return await ledger.finish(connection, [end.finish for end in endings if end.job.fence in holding])


async def _lock(connection: Connection, endings: Sequence[Ending], parks: Sequence[str | None]) -> set[int]:
    """Take the locks that the endings and their writes need, and return the fences of the claims that hold.

    The pause of a parked job's group follows its session as it is now: came it online meanwhile, the job is claimable.
    """
    moved = {write.connection_id for end in endings for write in end.writes if isinstance(write, MoveConnection)}
    told_of = _uuids([end.job.data.get("sessionId") for end in endings if end.writes])
    parked = _uuids(parks)
    # Of two claims of one job only the later can hold.
    claims = {end.job.pk: end.job.fence for end in sorted(endings, key=lambda end: end.job.fence)}
    pks = await connection.fetchval(
        _sql.lock, list(moved | parked), list(told_of), list(parked), list(claims), list(claims.values())
    )
    return {claims[pk] for pk in pks}


def _parks_a_session(end: Ending) -> bool:
    return end.finish.kind is FinishKind.PARK and end.job.queue is QueueName.MESSAGE_SEND


def _uuids(texts: Sequence[object]) -> set[UUID]:
    found = set()
    for text in texts:
        try:
            found.add(UUID(str(text)))
        except ValueError:
            continue
    return found
