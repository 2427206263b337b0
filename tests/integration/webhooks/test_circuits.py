"""An endpoint that fails again and again: asked rarely, it delays nobody, loses nothing, and is disabled after days."""

import asyncio
import errno
import json
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from functions.resources import open_resources
from shared.db import webhook_circuits as circuits
from shared.db import webhooks
from shared.db.pool import Pool, open_pool
from shared.db.writes import apply
from shared.domain.ids import DeliveryId, EndpointId
from shared.domain.jobs import Job
from shared.domain.outcome import Retry, Snooze
from shared.domain.webhook import fan_out_job
from shared.egress.resolver import Address
from shared.egress.target import Rule
from shared.queues.drain import Drain
from shared.queues.outage import Outage
from shared.queues.runtime import Queues
from shared.queues.sweeper import Sweeper
from shared.sealing import Sealer
from shared.settings import load
from shared.webhooks.client import Failed, FailureKind, SafeClient
from shared.webhooks.delivery import Courier
from shared.webhooks.fan_out import fan_out
from tests.integration.webhooks.conftest import QUEUE, WORK, Desk, drain, enqueue
from tests.integration.webhooks.servers import LOOPBACK, OK, Play, replying, serving

REFUSED = replying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
# Of a circuit that is opening at most one more delivery is on its way.
IN_FLIGHT = 2


async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def changing(*plays: Play) -> tuple[list[Play], Play]:
    """A play that is the first of a list, which a test may change."""
    current = list(plays)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await current[0](reader, writer)

    return current, play


async def post_events(desk: Desk, queues: Queues, count: int) -> None:
    for _ in range(count):
        await desk.event()
    await enqueue(queues, fan_out_job(desk.connection_id))


async def let_probe(pool: Pool, queues: Queues) -> bool:
    """The time of every open circuit has come: what the sweep does then."""
    await pool.execute("UPDATE webhook_circuits SET probe_at = now() - interval '1 s' WHERE probe_at IS NOT NULL")
    async with queues.transaction() as tx:
        return await circuits.probe_due(tx.connection)


async def statuses(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT status, count(*) AS n FROM webhook_deliveries GROUP BY 1")
    return {row["status"]: row["n"] for row in rows}


async def circuit(pool: Pool) -> dict[str, Any] | None:
    row = await pool.fetchrow("SELECT failures, strain, openings, probe_at > now() AS is_open FROM webhook_circuits")
    return None if row is None else dict(row)


async def group(pool: Pool, endpoint_id: EndpointId) -> tuple[int | None, list[str]]:
    row = await pool.fetchrow("SELECT cap, reasons FROM job_groups WHERE grp = $1", f"endpoint:{endpoint_id}")
    assert row is not None
    return row["cap"], row["reasons"]


async def test_a_dead_receiver_costs_few_tries_and_the_rest_waits_without_losing_one(
    desk: Desk, pool: Pool, queues: Queues
) -> None:
    current, play = changing(REFUSED)
    async with serving(play) as server:
        endpoint_id = (await desk.endpoint(server.url)).endpoint.id
        await post_events(desk, queues, 40)

        await drain(queues)
        at_first = len(server.requests)
        is_let = [await let_probe(pool, queues)]
        await drain(queues)
        after_probe = len(server.requests)
        untried = await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE attempts = 0")
        opened = await circuit(pool)

        current[0] = OK
        is_let.append(await let_probe(pool, queues))
        half_open = await group(pool, endpoint_id)
        await drain(queues)

    assert 10 <= at_first <= 10 + IN_FLIGHT
    assert after_probe == at_first + 1
    assert untried == 40 - after_probe
    assert opened is not None
    assert opened["is_open"]
    assert is_let == [True, True]
    assert half_open == (1, [])
    # Those that were tried wait for their own next try; all others were let through by the one success.
    assert await statuses(pool) == {"delivered": untried, "pending": after_probe}
    assert await circuit(pool) is None
    assert await group(pool, endpoint_id) == (None, [])


async def test_three_tries_without_an_answer_in_time_open_it(
    desk: Desk, pool: Pool, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAPHUB_WEBHOOK_TIMEOUT_S", "1")
    load.cache_clear()
    async with serving(hang) as server, await Queues.open(load()) as hasty:
        await desk.endpoint(server.url)
        await post_events(desk, queues, 10)

        await drain(hasty)

    assert 3 <= len(server.requests) <= 3 + IN_FLIGHT - 1
    opened = await circuit(pool)
    assert opened is not None
    assert opened["is_open"]


@pytest.mark.parametrize("dead", [1, 6])
async def test_receivers_that_hang_leave_a_slot_to_the_others(desk: Desk, queues: Queues, dead: int) -> None:
    is_done = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await OK(reader, writer)
        if len(healthy.requests) == 20:
            is_done.set()

    async with serving(hang) as hanging, serving(count) as healthy, open_resources(queues) as resources:
        for number in range(dead):
            await desk.endpoint(f"{hanging.url}/{number}")
        await desk.endpoint(healthy.url)
        await post_events(desk, queues, 20)
        drain = Drain(queues, {QUEUE: WORK}, resources, slots={QUEUE: 3}, worker="test")
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(drain.until_idle())
            async with asyncio.timeout(20):
                await is_done.wait()
            held = len(hanging.requests)
            working.cancel()

    assert dead <= held <= 2 * dead


async def test_it_is_opened_for_longer_each_time_up_to_five_minutes(desk: Desk, pool: Pool) -> None:
    endpoint_id = (await desk.endpoint()).endpoint.id

    seconds = []
    for weight in (4, *[1] * 8):
        async with pool.acquire() as connection:
            for _ in range(2):  # the second one was on its way when the first opened it
                await circuits.strain(connection, endpoint_id, failures=1, weight=weight)
            seconds.append(
                await connection.fetchval(
                    "SELECT round(extract(epoch FROM probe_at - now())) FROM webhook_circuits WHERE endpoint_id = $1",
                    endpoint_id,
                )
            )
            await circuits.probe(connection, endpoint_id)

    assert seconds[0] is None
    assert [int(one) for one in seconds[1:]] == [10, 20, 40, 80, 160, 300, 300, 300]


async def test_the_sweep_lets_it_be_tried_when_its_time_has_come(desk: Desk, pool: Pool, queues: Queues) -> None:
    endpoint_id = (await desk.endpoint()).endpoint.id
    async with pool.acquire() as connection:
        await circuits.strain(connection, endpoint_id, failures=10, weight=10)
        sweeper = Sweeper(queues, {QUEUE: WORK}, outage=Outage("test"), on_turn=lambda: None)
        await sweeper.sweep_once(connection)
        before = await group(pool, endpoint_id)

        await pool.execute("UPDATE webhook_circuits SET probe_at = now()")
        await Sweeper(queues, {QUEUE: WORK}, outage=Outage("test"), on_turn=lambda: None).sweep_once(connection)

    assert before == (1, ["circuit_open"])
    assert await group(pool, endpoint_id) == (1, [])


@pytest.mark.parametrize("how", ["moved", "enabled", "disabled", "deleted", "probed"])
async def test_whoever_changes_it_lets_it_be_tried_at_once(desk: Desk, pool: Pool, how: str) -> None:
    endpoint = (await desk.endpoint()).endpoint
    async with pool.acquire() as connection:
        await circuits.strain(connection, endpoint.id, failures=10, weight=10)
        if how == "moved":
            await webhooks.update(connection, endpoint, headers_sealed=None)
        elif how == "deleted":
            await webhooks.delete(connection, endpoint.id)
        elif how == "probed":
            await circuits.probe(connection, endpoint.id)
        else:
            await webhooks.set_enabled(connection, endpoint.id, enabled=how == "enabled")

    cap, reasons = await group(pool, endpoint.id)
    assert reasons == []
    assert cap == (1 if how == "probed" else None)


async def test_an_endpoint_that_failed_for_days_is_disabled_and_the_others_are_told(
    desk: Desk, pool: Pool, queues: Queues
) -> None:
    async with serving(REFUSED) as dying, serving() as watcher:
        endpoint_id = (await desk.endpoint(dying.url, events=["message.*"])).endpoint.id
        await desk.endpoint(watcher.url, events=["webhook.*"])
        await post_events(desk, queues, 1)
        await drain(queues)
        await pool.execute("UPDATE webhook_circuits SET failing_since = now() - interval '6 days', failures = 11")
        await post_events(desk, queues, 2)
        await drain(queues)

    [told] = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in watcher.requests]
    row = await pool.fetchrow("SELECT enabled, disabled_reason FROM webhook_endpoints WHERE id = $1", endpoint_id)
    assert row is not None
    assert (row["enabled"], row["disabled_reason"]) == (False, "no webhook was accepted for 5 days")
    assert (told["event"], told["payload"]["endpoint_id"]) == ("webhook.disabled", str(endpoint_id))
    assert told["sessionId"] == str(desk.connection_id)
    assert len(dying.requests) <= 3
    assert await circuit(pool) is None


@pytest.mark.parametrize(("days", "failures"), [(4, 50), (6, 5)])
async def test_neither_a_few_days_nor_a_few_tries_alone_disable_it(
    desk: Desk, pool: Pool, days: int, failures: int
) -> None:
    endpoint_id = (await desk.endpoint()).endpoint.id
    async with pool.acquire() as connection:
        await circuits.strain(connection, endpoint_id, failures=failures, weight=1)
        await pool.execute(f"UPDATE webhook_circuits SET failing_since = now() - interval '{days} days'")

        assert not await circuits.strain(connection, endpoint_id, failures=1, weight=1)


async def test_410_to_a_webhook_of_no_session_tells_the_others_too(desk: Desk, pool: Pool, queues: Queues) -> None:
    gone = replying(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
    async with serving(gone) as dying, serving() as watcher:
        await desk.endpoint(dying.url, events=["queue.*"])
        await desk.endpoint(watcher.url, events=["webhook.*"])
        await pool.execute(
            "INSERT INTO events (tenant_id, type, category, severity, payload, fan_out) "
            "SELECT tenant_id, 'queue.backlog', 'queue', 'warn', '{}', true FROM connections LIMIT 1"
        )
        await enqueue(queues, fan_out_job(None))

        await drain(queues)

    [told] = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in watcher.requests]
    assert (told["event"], told["sessionId"]) == ("webhook.disabled", None)


async def test_a_second_run_of_an_outcome_strains_it_once(desk: Desk, pool: Pool, queues: Queues) -> None:
    async with serving(REFUSED) as server, open_resources(queues) as resources:
        await desk.endpoint(server.url)
        await post_events(desk, queues, 1)
        await drain(queues)
        delivery_id = await pool.fetchval("SELECT id FROM webhook_deliveries")
        outcome = await resources.courier.deliver(job_of(attempt=2), DeliveryId(delivery_id))

        assert isinstance(outcome, Retry)
        for _ in range(2):
            async with pool.acquire() as connection, connection.transaction():
                await apply(connection, outcome.writes)

    found = await circuit(pool)
    assert found is not None
    assert found["failures"] == 2


# ---- our own outage


def job_of(*, attempt: int = 1, age_s: float = 0) -> Job:
    return Job(
        pk=1, job_id="webhook-x", queue=QUEUE, name="deliver-webhook", data={}, attempt=attempt, max_attempts=12,
        stalled=0, fence=1, group=None, order_key=None, priority=3,
        created_at=datetime.now(UTC) - timedelta(seconds=age_s),
    )  # fmt: skip


def no_name(number: int) -> Rule:
    async def resolve(_host: str, _port: int) -> Sequence[Address]:
        raise socket.gaierror(number, "no")

    return Rule(allow=LOOPBACK, resolve=resolve)


@pytest.mark.parametrize(("number", "is_ours"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
async def test_a_name_server_that_is_away_is_told_from_a_name_that_is_not(number: int, *, is_ours: bool) -> None:
    async with SafeClient(no_name(number), timeout_s=5) as client:
        exchanged = await client.post("http://name.test/", headers={}, body=b"{}")

    assert isinstance(exchanged, Failed)
    assert (exchanged.kind, exchanged.is_ours) == (FailureKind.NAME_UNRESOLVED, is_ours)


@pytest.mark.parametrize(
    ("number", "is_ours"),
    [
        (errno.ENETUNREACH, True),
        (errno.EMFILE, True),
        (errno.ECONNREFUSED, False),
        (errno.EHOSTUNREACH, False),
        (errno.ETIMEDOUT, False),
    ],
)
async def test_what_this_machine_lacks_is_told_from_what_the_receiver_does(
    monkeypatch: pytest.MonkeyPatch, number: int, *, is_ours: bool
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    async with SafeClient(Rule(allow=LOOPBACK), timeout_s=5) as client:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        exchanged = await client.post("http://127.0.0.1:8009/", headers={}, body=b"{}")

    assert isinstance(exchanged, Failed)
    assert (exchanged.kind, exchanged.is_ours) == (FailureKind.UNREACHABLE, is_ours)


def courier(pool: Pool, sealer: Sealer, client: Any) -> Courier:
    return Courier(pool=pool, client=client, sealer=sealer, delay_s=lambda _: 10, jitter=lambda: 1.0)


async def delivery(desk: Desk, pool: Pool, queues: Queues) -> DeliveryId:
    await desk.endpoint()
    await post_events(desk, queues, 1)
    async with pool.acquire() as connection, connection.transaction():
        await fan_out(connection, desk.connection_id)
    return DeliveryId(await pool.fetchval("SELECT id FROM webhook_deliveries"))


async def test_our_own_outage_is_no_try_and_no_failure(desk: Desk, pool: Pool, queues: Queues) -> None:
    delivery_id = await delivery(desk, pool, queues)
    async with SafeClient(no_name(socket.EAI_AGAIN), timeout_s=5) as client:
        outcomes = [
            await courier(pool, desk.sealer, client).deliver(job_of(age_s=age_s), delivery_id)
            for age_s in (0, 400, 10_000, 90_000)
        ]
        async with pool.acquire() as connection, connection.transaction():
            await apply(connection, outcomes[0].writes)

    *waits, charged = outcomes
    assert [isinstance(one, Snooze) and round(one.delay_s) for one in waits] == [10, 100, 300]
    assert isinstance(charged, Retry), "a name that no name server tells for a day is the receiver's"
    assert charged.failure.code == FailureKind.NAME_UNRESOLVED
    row = await pool.fetchrow(
        "SELECT status, attempts, last_error, next_attempt_at > now() AS is_due FROM webhook_deliveries"
    )
    assert row is not None
    assert (row["status"], row["attempts"], row["is_due"]) == ("pending", 0, True)
    assert row["last_error"].startswith("WEBHOOK_NAME_UNRESOLVED: not tried")
    strained = await circuit(pool)
    assert strained is not None
    assert (strained["failures"], strained["openings"]) == (0, 0)
    assert await pool.fetchval("SELECT count(*) FROM webhook_attempts") == 0


async def test_names_that_hang_are_asked_for_rarely_and_are_no_reason_to_disable(desk: Desk, pool: Pool) -> None:
    endpoint_id = (await desk.endpoint()).endpoint.id
    opened, disables = [], []
    async with pool.acquire() as connection:
        for _ in range(20):
            disables.append(await circuits.strain(connection, endpoint_id, failures=0, weight=4))
            now = await circuit(pool)
            assert now is not None
            opened.append(now["is_open"])
        await pool.execute("UPDATE webhook_circuits SET failing_since = now() - interval '9 days', probe_at = NULL")
        disables.append(await circuits.strain(connection, endpoint_id, failures=11, weight=11))
        shown = (await circuits.of_endpoints(connection, [endpoint_id]))[endpoint_id]
        disables.append(await circuits.strain(connection, endpoint_id, failures=1, weight=1))

    assert opened[:3] == [None, None, True]
    assert all(opened[2:])
    assert not any(disables), "the days are those since the first failure"
    assert shown.failing_since is not None
    assert datetime.now(UTC) - shown.failing_since < timedelta(days=1)


async def test_a_receiver_that_says_when_to_come_again_gets_nothing_until_then(
    desk: Desk, pool: Pool, queues: Queues
) -> None:
    busy = replying(b"HTTP/1.1 429 Slow down\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n")
    current, play = changing(busy)
    async with serving(play) as server:
        await desk.endpoint(server.url)
        await post_events(desk, queues, 10)

        await drain(queues)
        at_first = len(server.requests)
        held_s = await pool.fetchval("SELECT extract(epoch FROM probe_at - now())::int FROM webhook_circuits")
        current[0] = OK
        await let_probe(pool, queues)
        await drain(queues)

    assert at_first <= IN_FLIGHT
    assert 110 <= held_s <= 120
    assert await statuses(pool) == {"delivered": 10 - at_first, "pending": at_first}
    assert await circuit(pool) is None


@pytest.mark.parametrize(("asked_s", "held_s"), [(None, None), (7.0, 7), (86_400.0, 300)])
async def test_what_a_receiver_asks_for_is_bounded_and_makes_no_opening_longer(
    desk: Desk, pool: Pool, asked_s: float | None, held_s: int | None
) -> None:
    endpoint_id = (await desk.endpoint()).endpoint.id
    async with pool.acquire() as connection, connection.transaction():
        await circuits.strain(connection, endpoint_id, failures=1, weight=1, hold_s=asked_s)
        row = await connection.fetchrow(
            "SELECT openings, extract(epoch FROM probe_at - now())::int AS held_s FROM webhook_circuits"
        )

    assert row is not None
    assert (row["openings"], row["held_s"]) == (0, held_s)


async def test_another_secret_key_is_our_fault_and_no_try(desk: Desk, pool: Pool, queues: Queues) -> None:
    delivery_id = await delivery(desk, pool, queues)

    outcome = await courier(pool, Sealer(SecretStr("another key of some length")), None).deliver(job_of(), delivery_id)

    assert isinstance(outcome, Snooze)


async def test_postgres_away_before_the_post_is_no_try(desk: Desk, database_url: str) -> None:
    closed = await open_pool(database_url, max_size=1)
    await closed.close()

    outcome = await courier(closed, desk.sealer, None).deliver(job_of(), DeliveryId(uuid4()))

    assert isinstance(outcome, Snooze)
