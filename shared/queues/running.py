"""What is said of jobs while they run: how far they are, and that nobody wants them any more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.jobs import Job, QueueName
from shared.queues.policies import POLICIES

_sql: Final = load("ledger")

# A job of these may have done its work already, in a way that stopping it does not undo.
_NEVER_STOPPED: Final = frozenset({QueueName.MESSAGE_SEND})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far the job of a claim is."""

    pk: int
    fence: int
    value: float | Mapping[str, Any]


def reports_of(jobs: Iterable[Job]) -> list[Report]:
    """What these jobs said of their progress since somebody asked."""
    return [
        Report(pk=job.pk, fence=job.fence, value=value) for job in jobs if (value := job.progress.news()) is not None
    ]


async def report_progress(conn: Connection, reports: Sequence[Report]) -> None:
    """Show how far these claims are; those that were lost are left alone."""
    if reports:
        await conn.execute(
            _sql.report_progress,
            [report.pk for report in reports],
            [report.fence for report in reports],
            [report.value for report in reports],
        )


async def stop(conn: Connection, pks: Sequence[int]) -> set[int]:
    """Have jobs that run now stopped and cancelled, within a heartbeat, and return their pks.

    A handler may end before that, and then its outcome counts, except that it is not tried again. A send is left
    alone: it may have left.
    """
    return set(await conn.fetchval(_sql.stop, list(pks), [POLICIES[queue].id for queue in _NEVER_STOPPED]))


async def canceled(conn: Connection, pks: Iterable[int]) -> set[int]:
    """Those of the claimed jobs that are to be stopped."""
    return {row["pk"] for row in await conn.fetch(_sql.canceled, list(pks))}
