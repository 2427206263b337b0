"""`/webhooks`: register, list, show, change, forget; secrets, and enabling again what was disabled."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from api import webhooks
from api.answers import answer
from api.auth import Principal, allowed
from api.idempotency_key import keyed_request
from api.json_body import JsonRoute
from api.pages import page, place_of
from api.problem_shapes import errors
from api.routes.connections import Parts
from api.webhook_inputs import CreateWebhook, ListWebhooks, PatchWebhook, RotateSecret
from api.webhook_shapes import NewWebhook, RotatedSecret, Webhook, WebhookPage, webhook_shown
from shared.db import webhook_circuits
from shared.db import webhooks as stored
from shared.db.api_keys import Scope

router = APIRouter(tags=["webhooks"], route_class=JsonRoute)

Reader = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_WRITE))]


@router.post(
    "/webhooks", status_code=201, summary="Register an endpoint", response_model=NewWebhook, responses=errors(409)
)
async def create_webhook(request: Request, body: CreateWebhook, caller: Writer, parts: Parts) -> Response:
    """The secret that signs is shown this once. With an `Idempotency-Key` a repeated request is the same one."""
    made = await webhooks.create(parts, caller, body, await keyed_request(request, caller))
    return answer({**webhook_shown(made.endpoint, None), **_secret(made.new_secret)}, status=201)


@router.get("/webhooks", summary="List endpoints, newest first", response_model=WebhookPage)
async def list_webhooks(query: Annotated[ListWebhooks, Query()], caller: Reader, parts: Parts) -> Response:
    """Connections' own `webhook_url`s are among them. A limited key sees those that are limited to its connections."""
    after = place_of(query.cursor)
    async with parts.queues.pool.acquire() as connection:
        found = await stored.page(
            connection,
            tenant_id=caller.tenant_id,
            allowed=caller.connection_ids,
            after=after,
            limit=query.limit + 1,
        )
        failing = await webhook_circuits.of_endpoints(connection, [one.id for one in found])
    return answer(
        page(
            found,
            limit=query.limit,
            place=lambda one: (one.created_at, one.id),
            show=lambda one: webhook_shown(one, failing.get(one.id)),
        )
    )


@router.get("/webhooks/{webhook_id}", summary="Show an endpoint", response_model=Webhook, responses=errors(404))
async def get_webhook(webhook_id: UUID, caller: Reader, parts: Parts) -> Response:
    """Why it is disabled is in `disabled_reason`, and how it fails in `failing_since` and `paused_until`."""
    async with parts.queues.pool.acquire() as connection:
        endpoint = await webhooks.found(connection, caller, webhook_id)
        failing = await webhook_circuits.of_endpoints(connection, [endpoint.id])
    return answer(webhook_shown(endpoint, failing.get(endpoint.id)))


@router.patch(
    "/webhooks/{webhook_id}", summary="Change an endpoint", response_model=Webhook, responses=errors(404, 409)
)
async def patch_webhook(webhook_id: UUID, body: PatchWebhook, caller: Writer, parts: Parts) -> Response:
    """What waits for it goes to the new URL with the new headers, at once. `headers` replace all that there were."""
    return answer(webhook_shown(await webhooks.patch(parts, caller, webhook_id, body), None))


@router.delete("/webhooks/{webhook_id}", status_code=204, summary="Forget an endpoint", responses=errors(404))
async def delete_webhook(webhook_id: UUID, caller: Writer, parts: Parts) -> Response:
    """Its secret is erased and what waits for it is canceled."""
    await webhooks.delete(parts, caller, webhook_id)
    return Response(status_code=204)


@router.post(
    "/webhooks/{webhook_id}/rotate-secret",
    summary="Give it a new secret; the old one signs too for a while",
    response_model=RotatedSecret,
    responses=errors(404),
)
async def rotate_webhook_secret(
    webhook_id: UUID,
    caller: Writer,
    parts: Parts,
    body: RotateSecret = RotateSecret(),  # noqa: B008 - FastAPI's way
) -> Response:
    """Until `previous_valid_until` each webhook has a signature of both; at most three secrets sign."""
    secret, until = await webhooks.rotate_secret(parts, caller, webhook_id, body)
    return answer({"id": webhook_id, **_secret(secret), "previous_valid_until": until})


@router.post("/webhooks/{webhook_id}/enable", summary="Send to it again", response_model=Webhook, responses=errors(404))
async def enable_webhook(webhook_id: UUID, caller: Writer, parts: Parts) -> Response:
    """It may be tried at once, however often it failed. What it missed comes with a replay."""
    return answer(webhook_shown(await webhooks.set_enabled(parts, caller, webhook_id, enabled=True), None))


@router.post(
    "/webhooks/{webhook_id}/disable", summary="Send nothing to it", response_model=Webhook, responses=errors(404)
)
async def disable_webhook(webhook_id: UUID, caller: Writer, parts: Parts) -> Response:
    """What waits for it is canceled; a replay sends it later."""
    return answer(webhook_shown(await webhooks.set_enabled(parts, caller, webhook_id, enabled=False), None))


def _secret(secret: str | None) -> dict[str, Any]:
    return {} if secret is None else {"secret": secret}
