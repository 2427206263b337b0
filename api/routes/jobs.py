"""`/jobs/{id}`: one job by its readable id; run a dead letter again, take a job out."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from api import redo
from api.answers import accepted, answer, state_shown
from api.auth import Principal, allowed
from api.json_body import JsonRoute
from api.problem_shapes import errors
from api.queue_shapes import Job, JobDeleted
from api.routes.connections import Parts
from shared.db import connections
from shared.db.api_keys import Scope
from shared.db.pool import Connection
from shared.domain.errors import NotFound
from shared.domain.ids import DEFAULT_TENANT
from shared.queues import admin
from shared.queues.admin import Cancellation, JobView

router = APIRouter(tags=["jobs"], route_class=JsonRoute)

Reader = Annotated[Principal, Depends(allowed(Scope.QUEUES_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.QUEUES_WRITE))]


@router.get("/jobs/{job_id}", summary="Show the newest job of this id", response_model=Job)
async def get_job(job_id: str, caller: Reader, parts: Parts) -> Response:
    """Ids are readable, such as `msg-send-<message>`; an id is unique among jobs that have not ended."""
    async with parts.queues.pool.acquire() as connection:
        return answer(job_shown(await _found(connection, caller, job_id)))


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    summary="Let a dead letter run again",
    response_model=Job,
    responses=errors(409),
)
async def retry_job(job_id: str, caller: Writer, parts: Parts) -> Response:
    """What it is about follows: a dead message is queued again. The answer is the job that runs."""
    async with parts.queues.pool.acquire() as connection:
        job = await _found(connection, caller, job_id)
    runs = await redo.job(parts, caller, job)
    async with parts.queues.pool.acquire() as connection:
        return accepted(job_shown(await _found(connection, caller, runs)))


@router.delete(
    "/jobs/{job_id}",
    status_code=202,
    summary="Cancel a job that waits or runs, forget one that has ended",
    response_model=JobDeleted,
    responses=errors(409),
)
async def delete_job(job_id: str, caller: Writer, parts: Parts) -> Response:
    """`stopping`: it runs, and its worker stops it within seconds. A send that runs cannot be cancelled: 409."""
    async with parts.queues.pool.acquire() as connection:
        job = await _found(connection, caller, job_id)
    cancellation = await redo.take_out(parts, job)
    return accepted({"id": job.id, "deleted": True, "stopping": cancellation is Cancellation.STOPPING})


async def _found(connection: Connection, caller: Principal, job_id: str) -> JobView:
    job = None if "\x00" in job_id else await admin.get_job(connection, job_id)
    if job is None or not await _is_own(connection, caller, job):
        raise NotFound("There is no such job.")
    return job


async def _is_own(connection: Connection, caller: Principal, job: JobView) -> bool:
    """Whether the job is about a connection of the caller's; one about none is for whoever may everything."""
    about = _connection_of(job)
    if caller.connection_ids is not None:
        return about in caller.connection_ids
    if caller.tenant_id == DEFAULT_TENANT:
        return True
    return about is not None and await connections.is_of_tenant(connection, about, tenant_id=caller.tenant_id)


def _connection_of(job: JobView) -> UUID | None:
    """The connection that the job's data name; None when they name none, or what stands there is no id."""
    about = job.data.get("sessionId")
    try:
        return UUID(about) if isinstance(about, str) else None
    except ValueError:
        return None


def job_shown(job: JobView) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue.value,
        "state": state_shown(job.state).value,
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "run_at": job.run_at,
        "data": job.data,
        "result": job.result,
        "error": job.error,
        "progress": job.progress,
        "group": job.group,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
    }
