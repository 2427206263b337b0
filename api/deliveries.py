"""Deliveries that a person asks for: a test, one again, all of a time again."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from api.auth import Principal
from api.resources import Resources
from api.webhook_inputs import ReplayWebhook
from api.webhooks import found
from shared.db import webhook_circuits, webhook_log
from shared.db import webhook_deliveries as deliveries
from shared.db.pool import Connection, Record
from shared.db.webhook_log import EventPlace
from shared.domain.errors import Conflict, InvalidInput, NotFound
from shared.domain.ids import DeliveryId
from shared.domain.jobs import Enqueued, NewJob, QueueName
from shared.domain.webhook import TEST, Endpoint, delivery_job
from shared.queues import ledger
from shared.queues.bulk_sends import BUDGET_S
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction, retry_collisions
from shared.webhooks.fan_out import Missed, Replayed, replay_made, replay_missed

_QUEUE: Final = QueueName.WEBHOOK_DELIVERY
# Somebody waits for it: before the endpoint's other deliveries.
_BY_HAND_PRIORITY: Final = POLICIES[_QUEUE].priority + 1
_BATCH: Final = 500
_TEST_PAYLOAD: Final = {"message": "This is a test. ZapHub's webhooks reach this URL."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A delivery that is on its way, and its job."""

    delivery: Record
    job: Enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedSoFar:
    """How many deliveries one call sent on their way. `complete` False: go on with `after`."""

    count: int
    complete: bool
    after: UUID | None


async def shown(connection: Connection, caller: Principal, delivery_id: UUID) -> Record:
    """A delivery that the caller may see. Raises NotFound."""
    row = await webhook_log.get(connection, delivery_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


async def test(parts: Resources, caller: Principal, webhook_id: UUID) -> Sent:
    """Send the event `webhook.test`, whatever the endpoint subscribes to. Raises NotFound, and Conflict if disabled."""
    async with parts.queues.transaction() as tx:
        endpoint = _enabled(await found(tx.connection, caller, webhook_id))
        jobs = await deliveries.send_to_endpoint(
            tx.connection,
            endpoint.id,
            connection_id=None,
            event_type=TEST,
            payload=_TEST_PAYLOAD,
            priority=_BY_HAND_PRIORITY,
        )
        [job] = await tx.enqueue(jobs)
        await webhook_circuits.probe(tx.connection, endpoint.id)
        row = await shown(tx.connection, caller, UUID(jobs[0].data["deliveryId"]))
        return Sent(delivery=row, job=job)


async def redeliver(parts: Resources, caller: Principal, delivery_id: UUID) -> Sent:
    """Send one again, now, with the same bytes and a new budget of tries; one on its way is due now.

    Raises NotFound, and Conflict when its endpoint is disabled.
    """

    async def once() -> Sent:
        async with parts.queues.transaction() as tx:
            row = await shown(tx.connection, caller, delivery_id)
            if not row["is_enabled"]:
                raise _disabled()
            wanted = delivery_job(
                row["id"],
                endpoint_id=row["endpoint_id"],
                connection_id=row["connection_id"],
                priority=_BY_HAND_PRIORITY,
                again=True,
            )
            [job] = await _enqueue_again(tx, [wanted], [row["id"]])
            if job.deduplicated:
                await ledger.make_due(tx.connection, [job.pk])
            # Whoever asks for it says that the receiver may be well again.
            await webhook_circuits.probe(tx.connection, row["endpoint_id"])
            tx.ring(_QUEUE)
            return Sent(delivery=await shown(tx.connection, caller, delivery_id), job=job)

    return await retry_collisions(once)


async def replay(parts: Resources, caller: Principal, webhook_id: UUID, wanted: ReplayWebhook) -> ReplayedSoFar:
    """Send an endpoint again what was made for it in a time, and for the first time what it missed.

    Batches commit one by one; past 20 s the rest is left to another call. Raises NotFound, InvalidInput for a time that
    is none, and Conflict when the endpoint is disabled.
    """
    ends_at = time.monotonic() + BUDGET_S
    async with parts.queues.pool.acquire() as connection:
        endpoint = _enabled(await found(connection, caller, webhook_id))
        now = await webhook_log.now(connection)
    # What this call makes is made after `until`, so it is not sent again by its own later batches.
    until = now if wanted.until is None else min(wanted.until, now)
    if wanted.since >= until:
        raise InvalidInput("This must be before `until`, and in the past.", pointer="/since")
    count, after = 0, wanted.cursor
    place: EventPlace | None = None

    async def missed() -> Missed:
        return await _replay_missed(parts, endpoint, since=wanted.since, until=until, after=place)

    async def made() -> tuple[int, Replayed]:
        return await _replay_made(parts, caller, endpoint, since=wanted.since, until=until, after=after)

    while after is None:
        batch = await retry_collisions(missed)
        count += len(batch.jobs)
        place = batch.after
        if place is None:
            break
        if time.monotonic() >= ends_at:
            return ReplayedSoFar(count=count, complete=False, after=None)
    while True:
        sent, page = await retry_collisions(made)
        count += sent
        after = page.after
        if after is None or time.monotonic() >= ends_at:
            return ReplayedSoFar(count=count, complete=after is None, after=after)


async def _replay_missed(
    parts: Resources, endpoint: Endpoint, *, since: datetime, until: datetime, after: EventPlace | None
) -> Missed:
    async with parts.queues.transaction() as tx:
        page = await replay_missed(tx.connection, endpoint, since=since, until=until, after=after, limit=_BATCH)
        await tx.enqueue(page.jobs)
    return page


async def _replay_made(
    parts: Resources, caller: Principal, endpoint: Endpoint, *, since: datetime, until: datetime, after: UUID | None
) -> tuple[int, Replayed]:
    async with parts.queues.transaction() as tx:
        page = await replay_made(
            tx.connection,
            endpoint,
            since=since,
            until=until,
            allowed=caller.connection_ids,
            after=after,
            limit=_BATCH,
        )
        jobs = await _enqueue_again(tx, page.jobs, page.delivery_ids)
    return sum(not job.deduplicated for job in jobs), page


async def _enqueue_again(tx: Transaction, jobs: list[NewJob], ids: list[DeliveryId]) -> list[Enqueued]:
    """Jobs first: a worker that finishes one of these locks its group before its delivery too."""
    made = await tx.enqueue(jobs)
    await webhook_log.reopen(tx.connection, ids)
    await webhook_log.forget_dead_letters(tx.connection, POLICIES[_QUEUE].id, [job.job_id for job in jobs])
    return made


def _enabled(endpoint: Endpoint) -> Endpoint:
    if not endpoint.enabled:
        raise _disabled()
    return endpoint


def _disabled() -> Conflict:
    return Conflict("The webhook is disabled; POST /webhooks/{id}/enable first.")
