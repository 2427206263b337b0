"""From events to numbered, frozen deliveries, under reruns, races and rollbacks."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.db import webhook_deliveries as deliveries
from shared.db import webhooks
from shared.db.pool import Pool
from shared.db.sql import load
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, DeliveryId, EndpointId
from shared.domain.jobs import NewJob
from shared.domain.webhook import Endpoint, matches
from shared.webhooks.fan_out import FannedOut, fan_out, replay_made, replay_missed
from tests.integration.webhooks.conftest import Desk

YEAR = timedelta(days=365)


async def run(pool: Pool, connection_id: ConnectionId | None, *, limit: int = 200) -> FannedOut:
    async with pool.acquire() as connection, connection.transaction():
        return await fan_out(connection, connection_id, limit=limit)


async def run_and_roll_back(pool: Pool, connection_id: ConnectionId) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await fan_out(connection, connection_id)
        await transaction.rollback()


async def run_until_done(pool: Pool, connection_id: ConnectionId, *, limit: int = 200) -> list[NewJob]:
    jobs: list[NewJob] = []
    has_more = True
    while has_more:
        batch = await run(pool, connection_id, limit=limit)
        jobs += batch.jobs
        has_more = batch.has_more
    return jobs


async def numbers(pool: Pool, endpoint_id: EndpointId) -> list[int]:
    rows = await pool.fetch(
        "SELECT sequence FROM webhook_deliveries WHERE endpoint_id = $1 ORDER BY sequence", endpoint_id
    )
    return [row["sequence"] for row in rows]


async def test_events_become_deliveries_numbered_in_their_order_with_a_job_each(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    first = await desk.event("message.queued", payload={"text": "olá", "amount": 1.5})
    second = await desk.event("message.sent")

    done = await run(pool, desk.connection_id)

    rows = await pool.fetch("SELECT id, event_id, sequence, body, status FROM webhook_deliveries ORDER BY sequence")
    assert [(row["event_id"], row["sequence"], row["status"]) for row in rows] == [
        (first, 1, "pending"),
        (second, 2, "pending"),
    ]
    assert [job.job_id for job in done.jobs] == [f"webhook-{row['id']}" for row in rows]
    assert {job.group for job in done.jobs} == {f"endpoint:{endpoint.id}"}
    body = json.loads(rows[0]["body"])
    assert body["payload"] == {"text": "olá", "amount": 1.5}
    assert (body["id"], body["event"], body["sequence"]) == (str(rows[0]["id"]), "message.queued", 1)
    assert (body["sessionId"], body["externalId"]) == (str(desk.connection_id), "crm-7")
    assert not await pool.fetchval("SELECT bool_or(fan_out) FROM events")


async def test_a_second_run_makes_nothing_even_when_the_events_look_new_again(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    await desk.event()
    await desk.event()
    await run(pool, desk.connection_id)

    await pool.execute("UPDATE events SET fan_out = true")
    await desk.event()
    again = await run(pool, desk.connection_id)

    assert len(again.jobs) == 1
    assert await numbers(pool, endpoint.id) == [1, 2, 3]


async def test_a_fan_out_that_rolls_back_leaves_no_gap(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    await desk.event()

    await run_and_roll_back(pool, desk.connection_id)
    await run(pool, desk.connection_id)

    assert await numbers(pool, endpoint.id) == [1]


async def test_many_fan_outs_at_once_with_writers_and_rollbacks_number_without_gaps(desk: Desk, pool: Pool) -> None:
    ids = [(await desk.endpoint(f"https://{name}.example/")).endpoint.id for name in ("a", "b", "c")]
    dice = random.Random(7)
    events = 120

    async def write(count: int) -> None:
        for _ in range(count):
            await desk.event()

    async def fan(rounds: int) -> None:
        for _ in range(rounds):
            if dice.random() < 0.3:
                await run_and_roll_back(pool, desk.connection_id)
            else:
                await run(pool, desk.connection_id, limit=7)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(write(events // 4))
        for _ in range(5):
            group.create_task(fan(12))
    await run_until_done(pool, desk.connection_id)

    for endpoint_id in ids:
        assert await numbers(pool, endpoint_id) == list(range(1, events + 1))
    assert await pool.fetchval("SELECT count(DISTINCT (endpoint_id, event_id)) FROM webhook_deliveries") == 3 * events


async def test_fan_outs_of_two_connections_number_each_session_by_itself(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    other = await desk.connection()
    for connection_id in (desk.connection_id, other, other):
        await desk.event(of=connection_id)

    await asyncio.gather(run(pool, desk.connection_id), run(pool, other))

    assert await numbers(pool, endpoint.id) == [1, 1, 2]


async def test_a_backlog_is_made_in_batches(desk: Desk, pool: Pool) -> None:
    await desk.endpoint()
    for _ in range(7):
        await desk.event()

    first = await run(pool, desk.connection_id, limit=3)

    assert (first.events, first.has_more) == (3, True)
    assert len(await run_until_done(pool, desk.connection_id, limit=3)) == 4


async def test_a_disabled_deleted_unsubscribed_or_foreign_endpoint_gets_nothing(desk: Desk, pool: Pool) -> None:
    other = await desk.connection()
    disabled = (await desk.endpoint()).endpoint
    deleted = (await desk.endpoint()).endpoint
    await desk.endpoint(events=["session.*"])
    await desk.endpoint(connection_ids=[other])
    async with pool.acquire() as connection:
        await webhooks.set_enabled(connection, disabled.id, enabled=False, reason="by hand")
        await webhooks.delete(connection, deleted.id)
    await desk.event("message.sent")

    done = await run(pool, desk.connection_id)

    assert (done.events, done.jobs) == (1, [])
    assert not await pool.fetchval("SELECT bool_or(fan_out) FROM events")


async def test_an_event_without_a_session_has_a_sequence_of_its_own(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    for _ in range(2):
        await pool.execute(
            "INSERT INTO events (tenant_id, type, category, severity, payload, fan_out) "
            "VALUES ($1, 'queue.backlog', 'queue', 'warn', '{}', true)",
            DEFAULT_TENANT,
        )
        await run(pool, None)

    assert await numbers(pool, endpoint.id) == [1, 2]
    assert json.loads(await pool.fetchval("SELECT body FROM webhook_deliveries LIMIT 1"))["sessionId"] is None


async def test_the_sweep_finds_each_connection_whose_events_wait_too_long(desk: Desk, pool: Pool) -> None:
    waiting = [await desk.connection() for _ in range(3)]
    for connection_id in waiting:
        await desk.event(of=connection_id, age_s=3)
        await desk.event(of=connection_id)
    await desk.event(age_s=0)

    async with pool.acquire() as connection:
        missed = await deliveries.sweep_missed(connection)
        capped = await deliveries.sweep_missed(connection, limit=2)

    assert sorted(missed) == sorted(waiting)
    assert len(capped) == 2


SUBSCRIPTIONS = [["*"], ["message.*"], ["message.sent"], ["session.*"], ["session.qr", "message.read"], []]
TYPES = ["message.sent", "message.read", "session.qr", "session.status", "queue.backlog", "webhook.disabled"]


@pytest.mark.parametrize("events", SUBSCRIPTIONS)
async def test_sql_and_python_agree_on_who_wants_an_event(desk: Desk, pool: Pool, events: list[str]) -> None:
    other = await desk.connection()
    endpoint = (await desk.endpoint(events=["*"], connection_ids=None)).endpoint

    for connection_ids in (None, [desk.connection_id], [other]):
        for owner in (None, desk.connection_id, other):
            await pool.execute(
                "UPDATE webhook_endpoints SET events = $2, connection_ids = $3, owner_id = $4 WHERE id = $1",
                endpoint.id,
                events,
                connection_ids,
                owner,
            )
            async with pool.acquire() as connection:
                now = await webhooks.get(connection, endpoint.id, tenant_id=DEFAULT_TENANT)
                assert isinstance(now, Endpoint)
                for type_ in TYPES:
                    wanted = await connection.fetchval(
                        "SELECT event_is_wanted($1, $2, $3)", DEFAULT_TENANT, desk.connection_id, type_
                    )
                    assert matches(now, type_, desk.connection_id) == wanted


async def test_a_replay_sends_what_was_made_again_and_what_was_missed_for_the_first_time(
    desk: Desk, pool: Pool
) -> None:
    endpoint = (await desk.endpoint(events=["message.*"])).endpoint
    await desk.event("message.sent")
    await run(pool, desk.connection_id)
    await pool.execute("UPDATE webhook_deliveries SET status = 'delivered'")
    made: UUID = await pool.fetchval("SELECT id FROM webhook_deliveries")
    async with pool.acquire() as connection:
        await webhooks.set_enabled(connection, endpoint.id, enabled=False)
    await desk.event("message.read")
    await desk.event("session.qr")
    await run(pool, desk.connection_id)
    now = datetime.now(UTC)

    async with pool.acquire() as connection, connection.transaction():
        missed = await replay_missed(connection, endpoint, since=now - YEAR, until=now + YEAR)
        again = await replay_missed(connection, endpoint, since=now - YEAR, until=now + YEAR)
        replayed = await replay_made(connection, endpoint, since=now - YEAR, until=now + YEAR)

    assert [job.data.get("again") for job in (*missed.jobs, *replayed.jobs)] == [None, True]
    assert (again.jobs, missed.after) == ([], None)
    assert replayed.jobs[0].data["deliveryId"] == str(made)
    assert replayed.after is None
    assert await numbers(pool, endpoint.id) == [1, 2]


async def test_a_replay_goes_on_page_by_page(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    for _ in range(5):
        await desk.event()
    await run(pool, desk.connection_id)
    await pool.execute("UPDATE webhook_deliveries SET status = 'dead'")
    now, after = datetime.now(UTC), None
    seen: set[str] = set()

    for _ in range(3):
        async with pool.acquire() as connection, connection.transaction():
            page = await replay_made(connection, endpoint, since=now - YEAR, until=now + YEAR, after=after, limit=2)
        seen.update(job.job_id for job in page.jobs)
        after = page.after

    assert after is None
    assert len(seen) == 5


async def test_what_was_missed_is_made_page_by_page_in_order(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    async with pool.acquire() as connection:
        await webhooks.set_enabled(connection, endpoint.id, enabled=False)
    events = [await desk.event() for _ in range(5)]
    await run(pool, desk.connection_id)
    now, after = datetime.now(UTC), None

    sizes = []
    for _ in range(3):
        async with pool.acquire() as connection, connection.transaction():
            page = await replay_missed(connection, endpoint, since=now - YEAR, until=now + YEAR, after=after, limit=2)
        sizes.append(len(page.jobs))
        after = page.after

    assert (sizes, after) == ([2, 2, 1], None)
    rows = await pool.fetch("SELECT event_id FROM webhook_deliveries ORDER BY sequence")
    assert [row["event_id"] for row in rows] == events


def rows_read(node: dict[str, Any]) -> int:
    """Of a plan that ran: the rows that its scans looked at."""
    inner = sum(rows_read(one) for one in node.get("Plans", []))
    is_scan = "Scan" in node["Node Type"]
    return inner + (int(node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) if is_scan else 0)


async def test_a_page_of_a_long_replay_reads_a_page(desk: Desk, pool: Pool) -> None:
    endpoint = (await desk.endpoint()).endpoint
    await pool.execute(
        "INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, sequence, body, status, created_at) "
        "SELECT gen_random_uuid(), $1, gen_random_uuid(), 'message.sent', n, '', 'delivered', "
        "now() - (20000 - n) * interval '1 s' FROM generate_series(1, 20000) n",
        endpoint.id,
    )
    await pool.execute("ANALYZE webhook_deliveries")
    now, after = datetime.now(UTC), None
    seen: list[DeliveryId] = []

    for _ in range(4):
        async with pool.acquire() as connection, connection.transaction():
            page = await replay_made(connection, endpoint, since=now - YEAR, until=now + YEAR, after=after, limit=500)
        seen += page.delivery_ids
        after = page.after
    explained = await pool.fetchval(
        "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + load("webhook_deliveries").in_range,
        *(endpoint.id, now - YEAR, now + YEAR, after, 500, None),
    )

    ordered = await pool.fetch("SELECT id FROM webhook_deliveries ORDER BY created_at LIMIT 2000")
    assert seen == [row["id"] for row in ordered]
    assert rows_read(explained[0]["Plan"]) < 1000, explained
