"""Run handlers and turn whatever happens into outcomes; say what each outcome means for the ledger."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from shared.domain.errors import ZapHubError
from shared.domain.jobs import Job
from shared.domain.message import MessageStatus
from shared.domain.outcome import Discard, Done, Failure, Outcome, Park, Retry, Snooze, Unknown
from shared.domain.writes import MoveMessage, Write
from shared.queues.ledger import Finish, FinishKind
from shared.queues.policies import POLICIES
from shared.queues.registry import Work
from shared.queues.stops import Stop

# How one job's handler is called: through Taskiq's receiver, or None for directly.
Execute = Callable[[Work, Job, Any], Awaitable[Outcome]]

# What a handler says about the wire happened, whether or not its claim still holds.
_FACTS = frozenset({MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.PLAYED})
# A park needs a group that somebody resumes; a job without one looks again after this long.
_PARK_WITHOUT_GROUP_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)  # not frozen: one for each job, see Job
class Ending:
    """One job's outcome on its way into the ledger."""

    job: Job
    finish: Finish
    word: str  # the outcome's name in the log
    writes: tuple[Write, ...]
    failure: Failure | None = None
    duration_s: float = 0.0

    @property
    def facts(self) -> tuple[Write, ...]:
        """The writes that are true even when another claim has the job by now."""
        return tuple(write for write in self.writes if isinstance(write, MoveMessage) and write.to in _FACTS)


async def run_one(work: Work, job: Job, use: Any, execute: Execute | None) -> tuple[Outcome, bool]:  # noqa: ANN401 - resources
    """The job's outcome, and whether its handler raised. An exception is a try that failed and may be repeated."""
    try:
        if execute is not None:
            outcome = await execute(work, job, use)
        else:
            outcome = await call(work, job, use)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        # Nobody cancelled this job: something inside the handler was, and the handler let it through.
        log.warning("job_raised", job_id=job.job_id, queue=job.queue.value, error=type(error).__name__)
        return Retry(failure=failure_of(error)), True
    except Exception as error:  # the root of a job: nothing that a handler does may end the worker
        log.exception("job_raised", job_id=job.job_id, queue=job.queue.value, error=type(error).__name__)
        return Retry(failure=failure_of(error)), True
    if not isinstance(outcome, Outcome):
        log.error("job_returned_no_outcome", job_id=job.job_id, queue=job.queue.value, got=type(outcome).__name__)
        return Retry(failure=Failure(code="INTERNAL", detail="the handler returned no outcome")), True
    return outcome, False


def stopped(work: Work, job: Job, why: Stop, *, timeout_s: float) -> tuple[Outcome, bool]:
    """As `run_one`, for a handler that was stopped."""
    match why:
        case Stop.CANCELED:
            return canceled(), False
        case Stop.TIMEOUT:
            log.warning("job_timed_out", job_id=job.job_id, queue=job.queue.value, timeout_s=timeout_s)
            failure = Failure(code="TIMEOUT", detail=f"The try took longer than {timeout_s:g} s and was stopped.")
            if work.on_timeout is not None:
                return work.on_timeout(failure), False
            return Retry(failure=failure), True
        case _:
            assert_never(why)


def canceled() -> Outcome:
    """What becomes of a job that somebody cancelled while it ran."""
    return Discard(reason="canceled")


async def run_batch(
    work: Work,
    jobs: Sequence[Job],
    use: Any,  # noqa: ANN401 - resources
) -> list[tuple[Outcome, bool]] | None:
    """The outcomes of a batch, in order; None when it raised, or is of one job: each is to be run by itself."""
    assert work.handle_batch is not None
    if len(jobs) > 1:
        try:
            outcomes = await work.handle_batch(jobs, use)
        except Exception as error:  # noqa: BLE001 - as in run_one
            log.warning("batch_raised", queue=work.queue.value, jobs=len(jobs), error=type(error).__name__)
        else:
            if len(outcomes) == len(jobs) and all(isinstance(outcome, Outcome) for outcome in outcomes):
                return [(outcome, False) for outcome in outcomes]
            log.error("batch_returned_no_outcomes", queue=work.queue.value, jobs=len(jobs), got=len(outcomes))
    return None


async def call(work: Work, job: Job, use: Any, **dependencies: Any) -> Outcome:  # noqa: ANN401 - the handler's own
    """Call the handler itself; `dependencies` are what Taskiq resolved."""
    handle = work.alone.get(job.name, work.handle)
    if handle is not None:
        return await handle(job, use, **dependencies)
    assert work.handle_batch is not None
    [outcome] = await work.handle_batch([job], use, **dependencies)
    return outcome


def failure_of(error: BaseException) -> Failure:
    """What a job's row says about an exception: ours speak for themselves, of others only the class is safe to show."""
    if isinstance(error, ZapHubError):
        return Failure(code=error.public_code, detail=error.detail)
    return Failure(code="INTERNAL", detail=type(error).__name__)


def conclude(work: Work, job: Job, outcome: Outcome, *, has_raised: bool = False, duration_s: float = 0.0) -> Ending:
    """`ending`, also for an outcome that is not what its type says or a hook that raises: a failed try."""
    try:
        return ending(work, job, outcome, has_raised=has_raised, duration_s=duration_s)
    except Exception as error:
        log.exception("job_outcome_refused", job_id=job.job_id, queue=job.queue.value, error=type(error).__name__)
        return ending(work, job, Retry(failure=failure_of(error)), duration_s=duration_s)


def ending(work: Work, job: Job, outcome: Outcome, *, has_raised: bool = False, duration_s: float = 0.0) -> Ending:
    """What the outcome means for the job's row and for the domain's."""
    word = type(outcome).__name__.lower()
    writes = outcome.writes
    delay_s = 0.0
    failure: Failure | None = None
    result: dict[str, Any] | None = None
    reason: str | None = None
    match outcome:
        case Done():
            kind, result = FinishKind.DONE, outcome.result
        case Retry():
            kind, failure = FinishKind.RETRY, outcome.failure
            delay_s = POLICIES[job.queue].delay_s(job.attempt) if outcome.delay_s is None else outcome.delay_s
            if job.is_last_attempt:
                word, writes = "dead", outcome.last_writes
                if has_raised and work.on_ended is not None:
                    writes = tuple(work.on_ended(job.data, failure))
        case Park() if job.group is None:
            kind, delay_s, reason = FinishKind.SNOOZE, _PARK_WITHOUT_GROUP_S, outcome.reason
        case Park():
            kind, reason = FinishKind.PARK, outcome.reason
        case Snooze():
            kind, delay_s = FinishKind.SNOOZE, outcome.delay_s
        case Discard():
            failure, reason = outcome.failure, outcome.reason
            kind = FinishKind.CANCEL if failure is None else FinishKind.FAIL
        case Unknown():
            kind, failure, delay_s = FinishKind.UNKNOWN, outcome.failure, outcome.hold_s
        case _:
            assert_never(outcome)
    return Ending(
        job=job,
        finish=Finish(
            pk=job.pk,
            fence=job.fence,
            queue=job.queue,
            kind=kind,
            delay_s=max(0.0, delay_s),
            result=result,
            error=_error(failure, reason),
        ),
        word=word,
        writes=writes,
        failure=failure,
        duration_s=duration_s,
    )


def _error(failure: Failure | None, reason: str | None) -> dict[str, Any] | None:
    if failure is not None:
        return {"code": failure.code, "detail": failure.detail, "retryable": failure.retryable}
    return None if reason is None else {"code": reason.upper(), "detail": reason, "retryable": True}
