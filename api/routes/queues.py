"""`/queues`: their numbers and jobs, the emergency stop, cleaning, dead letters. `:` in a name may come as `%3A`."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from api import redo
from api.answers import accepted, answer, job_summary
from api.auth import Principal, allowed
from api.filters import count_shown
from api.inputs import CleanQueue, Input, RetryFailed
from api.json_body import JsonRoute
from api.pages import DEFAULT_LIMIT, Cursor, Limit, number_cursor_of, number_of
from api.queue_shapes import AllPaused, Cleaned, CleanupQueued, JobPage, QueueList, QueuePaused
from api.queue_shapes import Queue as QueueShown
from api.routes.connections import Parts
from api.routes.jobs import job_shown
from api.shapes import ChangedMany, JobStateShown
from shared.db.api_keys import Scope
from shared.db.job_admin import DeadLetterFilter
from shared.domain.errors import NotFound
from shared.domain.jobs import Enqueued, JobState, QueueName
from shared.queues import admin, metrics, new_jobs
from shared.queues.bulk_sends import BUDGET_S

router = APIRouter(tags=["queues"], route_class=JsonRoute)


async def _unlimited(caller: Principal) -> Principal:
    # A queue holds the jobs of every connection, whosever it is.
    caller.require_everything()
    return caller


async def _reader(caller: Annotated[Principal, Depends(allowed(Scope.QUEUES_READ))]) -> Principal:
    return await _unlimited(caller)


async def _writer(caller: Annotated[Principal, Depends(allowed(Scope.QUEUES_WRITE))]) -> Principal:
    return await _unlimited(caller)


async def _queue(name: str) -> QueueName:
    try:
        return QueueName(name)
    except ValueError:
        raise NotFound("There is no such queue; GET /queues lists all seven.") from None


Queue = Annotated[QueueName, Depends(_queue)]
Reader = Annotated[Principal, Depends(_reader)]
Writer = Annotated[Principal, Depends(_writer)]


class ListJobs(Input):
    state: JobStateShown = "waiting"
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@router.get("/queues", summary="Every queue's numbers", response_model=QueueList)
async def list_queues(_: Reader, parts: Parts) -> Response:
    """`waiting`, `active` and `delayed` are `total`; rates are over the last minute."""
    async with parts.queues.pool.acquire() as connection:
        return answer({"data": await metrics.queue_metrics(connection), "next_cursor": None})


@router.post("/queues/pause", status_code=202, summary="Emergency stop: pause every queue", response_model=AllPaused)
async def pause_queues(_: Writer, parts: Parts) -> Response:
    """Nothing starts any more; what runs ends, and new work is accepted and kept."""
    async with parts.queues.transaction() as tx:
        await admin.pause_all(tx.connection)
    return accepted({"paused": True})


@router.post("/queues/resume", status_code=202, summary="Resume every queue", response_model=AllPaused)
async def resume_queues(_: Writer, parts: Parts) -> Response:
    """Also those that were paused one by one."""
    async with parts.queues.transaction() as tx:
        await admin.resume_all(tx.connection)
        tx.ring(*QueueName)
    return accepted({"paused": False})


@router.post("/queues/clean", summary="Delete jobs that have ended, in every queue", response_model=Cleaned)
async def clean_queues(_: Writer, parts: Parts, body: CleanQueue = CleanQueue()) -> Response:  # noqa: B008 - FastAPI's way
    """`complete` false: the call's time was up, so call again for the rest."""
    return answer(await _clean(parts, tuple(QueueName), body))


@router.get("/queues/{name}", summary="One queue's numbers", response_model=QueueShown)
async def get_queue(_: Reader, name: Queue, parts: Parts) -> Response:
    """The `:` in its name may come as `%3A`."""
    async with parts.queues.pool.acquire() as connection:
        return answer(await metrics.metrics_of(connection, name))


@router.get("/queues/{name}/jobs", summary="A queue's jobs in one state, newest first", response_model=JobPage)
async def list_jobs(_: Reader, name: Queue, query: Annotated[ListJobs, Query()], parts: Parts) -> Response:
    """`state` is `waiting` unless you say otherwise; `failed` are the dead letters."""
    async with parts.queues.pool.acquire() as connection:
        found = await admin.list_jobs(
            connection, name, JobState(query.state), limit=query.limit + 1, before_pk=number_of(query.cursor)
        )
    page = found[: query.limit]
    return answer(
        {
            "data": [job_shown(job) for job in page],
            "next_cursor": number_cursor_of(page[-1].pk) if len(found) > query.limit else None,
        }
    )


@router.post(
    "/queues/{name}/pause",
    status_code=202,
    summary="Let none of its jobs start; it accepts and keeps work",
    response_model=QueuePaused,
)
async def pause_queue(_: Writer, name: Queue, parts: Parts) -> Response:
    """What runs ends. Sends of a paused `message:send` are accepted and wait."""
    async with parts.queues.transaction() as tx:
        await admin.pause_queue(tx.connection, name)
    return accepted({"name": name.value, "paused": True})


@router.post("/queues/{name}/resume", status_code=202, summary="Let its jobs start again", response_model=QueuePaused)
async def resume_queue(_: Writer, name: Queue, parts: Parts) -> Response:
    """What waited goes on in its order."""
    async with parts.queues.transaction() as tx:
        await admin.resume_queue(tx.connection, name)
        tx.ring(name)
    return accepted({"name": name.value, "paused": False})


@router.post("/queues/{name}/clean", summary="Delete its jobs that have ended", response_model=Cleaned)
async def clean_queue(_: Writer, name: Queue, parts: Parts, body: CleanQueue = CleanQueue()) -> Response:  # noqa: B008 - FastAPI's way
    """`complete` false: the call's time was up, so call again for the rest."""
    return answer(await _clean(parts, (name,), body))


@router.post(
    "/queues/{name}/retry-failed", status_code=202, summary="Let its dead letters run again", response_model=ChangedMany
)
async def retry_failed(
    caller: Writer,
    name: Queue,
    parts: Parts,
    body: RetryFailed = RetryFailed(),  # noqa: B008 - FastAPI's way
) -> Response:
    """What they are about follows: a dead message is queued again. `complete` false: call again for the rest."""
    wanted = DeadLetterFilter(job_ids=body.ids, **body.filter.model_dump())
    changed = await redo.dead_letters(parts, caller, name, wanted, limit=body.limit, dry_run=body.dry_run)
    return accepted(count_shown(changed.count, dry_run=body.dry_run, complete=changed.complete))


@router.post("/maintenance/cleanup", status_code=202, summary="Run the cleanup now", response_model=CleanupQueued)
async def clean_up(_: Writer, parts: Parts) -> Response:
    """One job a minute, however often it is asked for: within the minute the same one comes back."""
    wanted = new_jobs.cleanup({})
    async with parts.queues.transaction() as tx:
        is_new = await tx.enqueue_once(wanted)
        job = await admin.get_job(tx.connection, wanted.job_id)
    state = JobState.COMPLETED if job is None else job.state
    shown = Enqueued(pk=0 if job is None else job.pk, job_id=wanted.job_id, state=state, deduplicated=not is_new)
    return accepted(
        {"job": job_summary(shown, queue=QueueName.MAINTENANCE_CLEANUP), "deduplicated": shown.deduplicated}
    )


async def _clean(parts: Parts, queues: Sequence[QueueName], wanted: CleanQueue) -> dict[str, Any]:
    """Delete in batches, each of its own transaction, until nothing of that age is left or the time is up."""
    ends_at = time.monotonic() + BUDGET_S
    deleted = 0
    for queue in queues:
        batch = admin.CLEAN_BATCH
        while batch == admin.CLEAN_BATCH:
            if time.monotonic() >= ends_at:
                return {"count": deleted, "complete": False}
            async with parts.queues.pool.acquire() as connection:
                batch = await admin.clean(
                    connection, queue, JobState(wanted.state), older_than_s=wanted.older_than_seconds
                )
            deleted += batch
    return {"count": deleted, "complete": True}
