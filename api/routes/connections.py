"""`/connections`: create, list, show, change."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from api import lifecycle
from api.answers import accepted, answer, job_summary
from api.auth import Principal, allowed
from api.connection_shapes import ConnectionChanged, ConnectionDetail, ConnectionPage, PatchedConnection
from api.idempotency_key import keyed_request
from api.inputs import CreateConnection, Input, Name, PatchConnection
from api.json_body import JsonRoute
from api.lifecycle import Changed
from api.pages import DEFAULT_LIMIT, Cursor, Limit, page, place_of
from api.problem_shapes import errors
from api.resources import Resources, resources
from shared.db import connections
from shared.db.api_keys import Scope
from shared.domain.errors import NotFound
from shared.domain.ids import ConnectionId
from shared.domain.session import SessionStatus
from shared.queues import line

router = APIRouter(tags=["connections"], route_class=JsonRoute)

Parts = Annotated[Resources, Depends(resources)]
Reader = Annotated[Principal, Depends(allowed(Scope.CONNECTIONS_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.CONNECTIONS_WRITE))]


class ListConnections(Input):
    status: SessionStatus | None = None
    external_id: Name | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@router.post(
    "/connections",
    status_code=202,
    summary="Create a connection and open it",
    response_model=ConnectionChanged,
    responses=errors(409),
)
async def create_connection(request: Request, body: CreateConnection, caller: Writer, parts: Parts) -> Response:
    """`job` opens it. With an `Idempotency-Key` a repeated request is the same one; `webhook_secret` is shown once."""
    caller.require_all_connections()
    changed = await lifecycle.create(parts, caller, body, await keyed_request(request, caller))
    return accepted(shown(changed))


@router.get("/connections", summary="List connections, newest first", response_model=ConnectionPage)
async def list_connections(query: Annotated[ListConnections, Query()], caller: Reader, parts: Parts) -> Response:
    """Those that the key may see; deleted ones are gone."""
    """Those that the key may see; deleted ones are gone."""
    after = place_of(query.cursor)
    async with parts.queues.pool.acquire() as connection:
        rows = await connections.list_objects(
            connection,
            tenant_id=caller.tenant_id,
            allowed=caller.connection_ids,
            status=query.status,
            external_id=query.external_id,
            after=after,
            limit=query.limit + 1,
        )
    return answer(
        page(rows, limit=query.limit, place=lambda row: (row["created_at"], row["id"]), show=lambda row: row["object"])
    )


@router.get("/connections/{connection_id}", summary="Show a connection", response_model=ConnectionDetail)
async def get_connection(connection_id: UUID, caller: Reader, parts: Parts) -> Response:
    """`sending` tells of its line: how many messages wait, why it is paused, and when it is likely to be empty."""
    async with parts.queues.pool.acquire() as connection:
        found = await connections.get_object(
            connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )
        if found is None:
            raise NotFound("There is no such connection.")
        return answer({**found, "sending": await line.sending(connection, ConnectionId(connection_id))})


@router.patch(
    "/connections/{connection_id}",
    summary="Change a connection",
    response_model=PatchedConnection,
    responses=errors(409),
)
async def patch_connection(connection_id: UUID, body: PatchConnection, caller: Writer, parts: Parts) -> Response:
    """What is given replaces what was there; null takes an optional value away."""
    changed = await lifecycle.patch(parts, caller, connection_id, body)
    return answer({**changed.connection, **_secret(changed)})


def shown(changed: Changed) -> dict[str, Any]:
    """`{"connection", "job", "deduplicated"}`, and the webhook's secret the one time that it can be shown."""
    body: dict[str, Any] = {"connection": changed.connection, **_secret(changed)}
    if changed.job is not None:
        body["job"] = job_summary(changed.job, queue=changed.queue)
        body["deduplicated"] = changed.job.deduplicated
    return body


def _secret(changed: Changed) -> dict[str, str]:
    return {} if changed.webhook_secret is None else {"webhook_secret": changed.webhook_secret}
