"""What was sent to an endpoint: the log of its deliveries with their tries; a test, one again, a time again."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api import deliveries, webhooks
from api.answers import accepted, answer, job_summary
from api.deliveries import Sent
from api.json_body import JsonRoute
from api.pages import page, place_of
from api.problem_shapes import errors
from api.routes.connections import Parts
from api.routes.webhooks import Reader, Writer
from api.webhook_inputs import ListDeliveries, ReplayWebhook
from api.webhook_shapes import (
    DeliveryDetail,
    DeliveryPage,
    Queued,
    Replayed,
    attempt_shown,
    delivery_shown,
)
from shared.db import webhook_log
from shared.domain.jobs import QueueName

router = APIRouter(tags=["webhooks"], route_class=JsonRoute)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    summary="Send a test event to it",
    response_model=Queued,
    responses=errors(404, 409),
)
async def test_webhook(webhook_id: UUID, caller: Writer, parts: Parts) -> Response:
    """The event `webhook.test`, signed and retried like every other. `GET /deliveries/{id}` tells what came of it."""
    return accepted(_queued(await deliveries.test(parts, caller, webhook_id)))


@router.post(
    "/webhooks/{webhook_id}/replay",
    status_code=202,
    summary="Send it everything of a time again",
    response_model=Replayed,
    responses=errors(404, 409),
)
async def replay_webhook(webhook_id: UUID, body: ReplayWebhook, caller: Writer, parts: Parts) -> Response:
    """What was made for it in that time, with the same ids and bytes, and what it missed while it was disabled.

    What is on its way is left alone, and what is new goes first.
    """
    replayed = await deliveries.replay(parts, caller, webhook_id, body)
    return accepted({"count": replayed.count, "complete": replayed.complete, "next_cursor": replayed.after})


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="List what was made for it, newest first",
    response_model=DeliveryPage,
    responses=errors(404),
)
async def list_deliveries(
    webhook_id: UUID, query: Annotated[ListDeliveries, Query()], caller: Reader, parts: Parts
) -> Response:
    """Kept for `ZAPHUB_RETENTION_DELIVERIES_DAYS`."""
    after = place_of(query.cursor)
    async with parts.queues.pool.acquire() as connection:
        endpoint = await webhooks.found(connection, caller, webhook_id)
        rows = await webhook_log.page(
            connection,
            endpoint.id,
            status=query.status,
            allowed=caller.connection_ids,
            after=after,
            limit=query.limit + 1,
        )
    return answer(page(rows, limit=query.limit, place=lambda row: (row["created_at"], row["id"]), show=delivery_shown))


@router.get(
    "/deliveries/{delivery_id}",
    summary="Show a delivery with its body and every try",
    response_model=DeliveryDetail,
    responses=errors(404),
)
async def get_delivery(delivery_id: UUID, caller: Reader, parts: Parts) -> Response:
    """`response` is what the receiver answered, up to 2 kB: escape it where you show it."""
    async with parts.queues.pool.acquire() as connection:
        row = await deliveries.shown(connection, caller, delivery_id)
        attempts = await webhook_log.attempts_of(connection, delivery_id)
    return answer({**delivery_shown(row), "body": row["body"], "attempts": [attempt_shown(one) for one in attempts]})


@router.post(
    "/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a delivery again, now",
    response_model=Queued,
    responses=errors(404, 409),
)
async def redeliver(delivery_id: UUID, caller: Writer, parts: Parts) -> Response:
    """The same id and bytes, a new budget of tries. One that is on its way is tried now: `deduplicated` is true."""
    return accepted(_queued(await deliveries.redeliver(parts, caller, delivery_id)))


def _queued(sent: Sent) -> dict[str, Any]:
    return {
        "delivery": delivery_shown(sent.delivery),
        "job": job_summary(sent.job, queue=QueueName.WEBHOOK_DELIVERY),
        "deduplicated": sent.job.deduplicated,
    }
