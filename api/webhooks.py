"""What each call about a webhook endpoint changes: URL judged at the door, then one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final
from uuid import UUID

from api.auth import Principal
from api.inputs import Order
from api.problems import Problem
from api.resources import Resources
from api.webhook_inputs import CreateWebhook, PatchWebhook, RotateSecret
from shared.db import idempotency, webhook_circuits, webhook_log, webhooks
from shared.db.idempotency import KeyedRequest
from shared.db.pool import Connection
from shared.domain.errors import Conflict, InvalidInput, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.jobs import QueueName
from shared.domain.webhook import Endpoint
from shared.egress.target import Rule, Target
from shared.queues.runtime import Transaction, retry_collisions
from shared.sealing import Sealer
from shared.webhooks import endpoints
from shared.webhooks.endpoints import Registered, Registration

# Every event looks at every endpoint of its tenant.
MAX_ENDPOINTS: Final = 500


async def create(parts: Resources, caller: Principal, wanted: CreateWebhook, keyed: KeyedRequest | None) -> Registered:
    """Register an endpoint; its secret is in the answer unless the caller brought it or made this request before.

    Raises InvalidInput, Problem 403 for a limited key that means all connections, and Conflict when the idempotency key
    is taken or there are too many endpoints.
    """
    target = await judged(parts, wanted.url)
    async with parts.queues.transaction() as tx:
        before = keyed and await idempotency.begin(tx.connection, keyed)
        if before:
            endpoint = await found(tx.connection, caller, UUID(before["webhook_id"]))
            return Registered(endpoint=endpoint, new_secret=None)
        registered = await register(tx, parts, caller, wanted, target)
        if keyed:
            await idempotency.finish(tx.connection, keyed, {"webhook_id": str(registered.endpoint.id)})
    return registered


async def register(
    tx: Transaction, parts: Resources, caller: Principal, wanted: CreateWebhook, target: Target
) -> Registered:
    """Register an endpoint for a URL that was judged, in the caller's transaction. Raises as `create`."""
    if await webhooks.count(tx.connection, tenant_id=caller.tenant_id) >= MAX_ENDPOINTS:
        raise Conflict(f"There are {MAX_ENDPOINTS} webhook endpoints; delete one that nobody needs.")
    return await endpoints.create(
        tx.connection,
        Registration(
            target=target,
            events=wanted.events,
            connection_ids=await _permitted(tx.connection, caller, wanted.connection_ids),
            headers=wanted.headers,
            secret=wanted.secret.get_secret_value() if wanted.secret else None,
            tenant_id=caller.tenant_id,
            keeps_order=wanted.order is Order.CHAT,
            payload_format=wanted.payload_format,
        ),
        sealer=Sealer(parts.settings.secret_key),
    )


async def patch(parts: Resources, caller: Principal, webhook_id: UUID, wanted: PatchWebhook) -> Endpoint:
    """Change what is given. Raises NotFound, InvalidInput, Problem 403, and Conflict for another connection's own."""
    target = None if wanted.url is None else await judged(parts, wanted.url)

    async def change(tx: Transaction) -> Endpoint:
        endpoint = await found(tx.connection, caller, webhook_id, lock=True)
        await refuse_to_turn_aside(tx.connection, caller, endpoint, target)
        if "connection_ids" in wanted.model_fields_set:
            if endpoint.owner_id is not None:
                raise Conflict("This is a connection's webhook_url, which gets the events of that connection alone.")
            permitted = await _permitted(tx.connection, caller, wanted.connection_ids)
            endpoint = replace(endpoint, connection_ids=None if permitted is None else tuple(permitted))
        if wanted.order is not None:
            endpoint = replace(endpoint, keeps_order=wanted.order is Order.CHAT)
        if wanted.payload_format is not None:
            endpoint = replace(endpoint, payload_format=wanted.payload_format)
        tx.ring(QueueName.WEBHOOK_DELIVERY)
        return await endpoints.change(
            tx.connection,
            endpoint,
            sealer=Sealer(parts.settings.secret_key),
            target=target,
            events=wanted.events,
            headers=wanted.headers,
        )

    async def once() -> Endpoint:
        async with parts.queues.transaction() as tx:
            return await change(tx)

    return await retry_collisions(once)


async def rotate_secret(
    parts: Resources, caller: Principal, webhook_id: UUID, wanted: RotateSecret
) -> tuple[str | None, datetime]:
    """The new secret, None when the caller brought it, and until when the one before signs too. Raises NotFound."""
    now = datetime.now(UTC)
    grace = timedelta(seconds=wanted.grace_seconds)
    brought = wanted.secret.get_secret_value() if wanted.secret else None
    async with parts.queues.transaction() as tx:
        endpoint = await found(tx.connection, caller, webhook_id, lock=True)
        secret = await endpoints.rotate_secret(
            tx.connection,
            endpoint.id,
            sealer=Sealer(parts.settings.secret_key),
            now=now,
            secret=brought,
            grace=grace,
        )
    return None if brought else secret, now + grace


async def set_enabled(parts: Resources, caller: Principal, webhook_id: UUID, *, enabled: bool) -> Endpoint:
    """Enable or disable it; again changes nothing. Raises NotFound."""

    async def once() -> Endpoint:
        async with parts.queues.transaction() as tx:
            endpoint = await found(tx.connection, caller, webhook_id, lock=True)
            if endpoint.enabled is enabled and not await webhook_circuits.of_endpoints(tx.connection, [endpoint.id]):
                return endpoint
            reason = None if enabled else "disabled on request"
            changed = await webhooks.set_enabled(tx.connection, endpoint.id, enabled=enabled, reason=reason)
            tx.ring(QueueName.WEBHOOK_DELIVERY)
            return changed or endpoint

    return await retry_collisions(once)


async def delete(parts: Resources, caller: Principal, webhook_id: UUID) -> None:
    """Forget it; what is on its way is canceled. Raises NotFound."""

    async def once() -> None:
        async with parts.queues.transaction() as tx:
            endpoint = await found(tx.connection, caller, webhook_id, lock=True)
            await webhooks.delete(tx.connection, endpoint.id)

    await retry_collisions(once)


async def found(connection: Connection, caller: Principal, webhook_id: UUID, *, lock: bool = False) -> Endpoint:
    """An endpoint that the caller may see. Raises NotFound for one that is foreign, deleted or was never there."""
    endpoint = await webhooks.get(
        connection, webhook_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids, lock=lock
    )
    if endpoint is None:
        raise NotFound("There is no such webhook.")
    return endpoint


async def refuse_to_turn_aside(
    connection: Connection, caller: Principal, endpoint: Endpoint, target: Target | None
) -> None:
    """What waits goes to a new URL, and a limited key may not have what is of other connections sent to its own.

    Raises Conflict.
    """
    if target is None or target.url == endpoint.url or caller.connection_ids is None:
        return
    if await webhook_log.has_others_waiting(connection, endpoint.id, caller.connection_ids):
        raise Conflict(
            "Webhooks of other connections are still on their way to this URL. Register another webhook, or use an API "
            "key without a limit."
        )


async def _permitted(
    connection: Connection, caller: Principal, wanted: Sequence[UUID] | None
) -> Sequence[ConnectionId] | None:
    """The connections that an endpoint may be limited to; a foreign one looks like a missing one."""
    if wanted is None:
        if caller.connection_ids is not None:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "FORBIDDEN",
                "The API key is limited to some connections; name those of the webhook in `connection_ids`.",
            )
        return None
    permitted = [ConnectionId(one) for one in dict.fromkeys(wanted)]
    unknown = await webhooks.unknown_connections(
        connection, permitted, tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    for place, one in enumerate(wanted):
        if one in unknown:
            raise InvalidInput("There is no such connection.", pointer=f"/connection_ids/{place}")
    return permitted


async def judged(parts: Resources, url: str) -> Target:
    """A URL that may be called. Asks a name server, so it comes before the transaction."""
    return await Rule(allow=tuple(parts.settings.webhook_allow_networks)).check(url, pointer="/url")
