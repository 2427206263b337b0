"""`/messages/cancel` and `/messages/retry`: many messages by a filter, or only their number."""

from typing import Any

from fastapi import APIRouter, Response

from api.answers import accepted
from api.auth import Principal
from api.filters import CancelMessages, RetryMessages, count_shown
from api.json_body import JsonRoute
from api.problem_shapes import errors
from api.resources import Resources
from api.routes.connections import Parts
from api.routes.messages import Writer
from api.shapes import ChangedMany
from shared.db import connections, message_bulk
from shared.db.message_bulk import Meant
from shared.domain.errors import NotFound
from shared.domain.session import REFUSES_SENDS
from shared.queues import bulk_sends

router = APIRouter(tags=["messages"], route_class=JsonRoute)


@router.post(
    "/messages/cancel",
    status_code=202,
    summary="Take back every message of a filter that has not left",
    response_model=ChangedMany,
    responses=errors(404),
)
async def cancel_messages(body: CancelMessages, caller: Writer, parts: Parts) -> Response:
    """`count` is how many were cancelled; what was being sent at that moment was left. `complete` false: call again."""
    meant = await _meant(parts, caller, body)
    if body.dry_run:
        return accepted(await _counted(parts, meant))
    changed = await bulk_sends.cancel(parts.queues, meant)
    return accepted(count_shown(changed.count, dry_run=False, complete=changed.complete))


@router.post(
    "/messages/retry",
    status_code=202,
    summary="Send every message of a filter that failed once more",
    response_model=ChangedMany,
    responses=errors(404),
)
async def retry_messages(body: RetryMessages, caller: Writer, parts: Parts) -> Response:
    """Messages of a connection that refuses sends are left. `complete` false: call again."""
    meant = await _meant(parts, caller, body)
    if body.dry_run:
        return accepted(await _counted(parts, meant))
    changed = await bulk_sends.retry(parts.queues, meant, default_ttl_s=parts.settings.send_ttl_seconds)
    return accepted(count_shown(changed.count, dry_run=False, complete=changed.complete))


async def _meant(parts: Resources, caller: Principal, body: CancelMessages | RetryMessages) -> Meant:
    """Raises NotFound for a connection that this caller does not have."""
    wanted = body.filter.wanted()
    if wanted.connection_id is not None:
        async with parts.queues.pool.acquire() as connection:
            if not await connections.get_object(
                connection, wanted.connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
            ):
                raise NotFound("There is no such connection.")
    return Meant(
        tenant_id=caller.tenant_id,
        allowed=caller.connection_ids,
        wanted=wanted,
        statuses=body.statuses(),
        refusing=frozenset(REFUSES_SENDS) if isinstance(body, RetryMessages) else frozenset(),
    )


async def _counted(parts: Resources, meant: Meant) -> dict[str, Any]:
    async with parts.queues.pool.acquire() as connection:
        return count_shown(await message_bulk.count_meant(connection, meant), dry_run=True)
