"""One wide line per job end: what a customer's question about a job needs, and no body and no phone number."""

import logging
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from shared.domain.jobs import Job
from shared.log import Form
from shared.queues.runner import Ending

_ended: Final = Form(
    "job_ended",
    *("job_id", "queue", "attempt", "max_attempts", "session_id", "message_id", "outcome", "duration_ms", "wait_ms"),
)

log = structlog.get_logger(__name__)


def log_ended(ends: Iterable[Ending], *, accepted: Container[int], dead: Container[int]) -> None:
    """Of these fences `accepted` ended as their handlers said, and `dead`, which are among them, are dead letters now.

    `wait_ms` is from the job's making to its handler's start, retries and delays included.
    """
    now = datetime.now(UTC)
    is_info = log.is_enabled_for(logging.INFO)
    lines = []
    for end in ends:
        was_accepted, is_dead = end.job.fence in accepted, end.job.fence in dead
        if end.failure is not None or is_dead or not was_accepted:
            _log_failed(end, _row(end, now), was_accepted=was_accepted, is_dead=is_dead)
        elif is_info:
            lines.append(_row(end, now))
    _ended.write(lines)


def log_lost(job: Job) -> None:
    """Another worker has the claim: this one's handler is stopped."""
    log.warning(
        "job_lost",
        job_id=job.job_id,
        queue=job.queue.value,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        session_id=job.data.get("sessionId"),
        message_id=job.data.get("messageDbId"),
    )


def _log_failed(end: Ending, row: Sequence[Any], *, was_accepted: bool, is_dead: bool) -> None:
    fields = dict(zip(_ended.names, row, strict=True))
    if end.failure is not None:
        fields |= {"code": end.failure.code, "detail": end.failure.detail}
    if not was_accepted:
        log.warning("job_claim_lapsed", **fields)
    elif is_dead:
        log.warning("job_ended", **fields | {"outcome": "dead"})
    else:
        log.info("job_ended", **fields)


def _row(end: Ending, now: datetime) -> tuple[Any, ...]:
    job = end.job
    return (
        job.job_id,
        job.queue.value,
        job.attempt,
        job.max_attempts,
        job.data.get("sessionId"),
        job.data.get("messageDbId"),
        end.word,
        round(end.duration_s * 1000, 1),
        max(0, round(((now - job.created_at).total_seconds() - end.duration_s) * 1000)),
    )
