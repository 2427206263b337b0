"""One wide line per job end: what a customer's question about a job needs, and no body and no phone number."""

from datetime import UTC, datetime
from typing import Any, Final

import structlog

from shared.domain.jobs import Job
from shared.queues.runner import Ending

_INFO: Final = 20  # the standard library's number

log = structlog.get_logger(__name__)


def log_ended(end: Ending, *, was_accepted: bool, is_dead: bool) -> None:
    """`wait_ms` is from the job's making to its handler's start, retries and delays included."""
    if was_accepted and not is_dead and not log.is_enabled_for(_INFO):
        return
    fields = _fields(end.job)
    fields["outcome"] = "dead" if is_dead else end.word
    fields["duration_ms"] = round(end.duration_s * 1000, 1)
    age_s = (datetime.now(UTC) - end.job.created_at).total_seconds()
    fields["wait_ms"] = round(max(0.0, age_s - end.duration_s) * 1000)
    if end.failure is not None:
        fields |= {"code": end.failure.code, "detail": end.failure.detail}
    if not was_accepted:
        log.warning("job_claim_lapsed", **fields)
    elif is_dead:
        log.warning("job_ended", **fields)
    else:
        log.info("job_ended", **fields)


def log_lost(job: Job) -> None:
    """Another worker has the claim: this one's handler is stopped."""
    log.warning("job_lost", **_fields(job))


def _fields(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "queue": job.queue.value,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "session_id": job.data.get("sessionId"),
        "message_id": job.data.get("messageDbId"),
    }
