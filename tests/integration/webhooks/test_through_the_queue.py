"""Events to webhooks through the real queue: the handler, the drain, the ledger, and a worker that dies on the way."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from shared.db.pool import Pool
from shared.domain.jobs import NewJob, QueueName
from shared.domain.webhook import delivery_id_of, delivery_job, fan_out_job
from shared.queues.runtime import Queues
from shared.settings import load
from tests.integration.webhooks.conftest import Desk, drain, enqueue
from tests.integration.webhooks.servers import Server, replying, serving

QUEUE = QueueName.WEBHOOK_DELIVERY
# One worker's life, in a process of its own: work the queue until it is empty.
WORKER = """
import asyncio
from functions.resources import open_resources
from functions.webhook_delivery import handle
from shared.domain.jobs import QueueName
from shared.queues.drain import Drain
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.settings import load

async def main():
    work = Work(queue=QueueName.WEBHOOK_DELIVERY, handle=handle)
    async with await Queues.open(load()) as queues, open_resources(queues) as resources:
        await Drain(queues, {work.queue: work}, resources, slots={work.queue: 3}, worker="doomed").until_idle()

asyncio.run(main())
"""


def bodies(server: Server) -> list[bytes]:
    return [request.partition(b"\r\n\r\n")[2] for request in server.requests]


async def states(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT name || ' ' || state AS what, count(*) AS n FROM jobs GROUP BY 1")
    return {row["what"]: row["n"] for row in rows}


async def test_events_reach_the_receiver_in_numbers_without_gaps(desk: Desk, pool: Pool, queues: Queues) -> None:
    async with serving() as server:
        secret = (await desk.endpoint(server.url)).new_secret
        for _ in range(20):
            await desk.event()
        await enqueue(queues, fan_out_job(desk.connection_id))

        await drain(queues)

    assert sorted(json.loads(body)["sequence"] for body in bodies(server)) == list(range(1, 21))
    assert await states(pool) == {"fan-out completed": 1, "deliver-webhook completed": 20}
    assert secret is not None
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        Webhook(secret).verify(body, dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]))


async def test_an_address_inside_is_not_reached_when_no_network_is_allowed(
    desk: Desk, pool: Pool, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZAPHUB_WEBHOOK_ALLOW_NETWORKS")
    load.cache_clear()

    async with serving() as canary, await Queues.open(load()) as strict:
        await desk.endpoint(canary.url)
        await desk.event()
        await enqueue(strict, fan_out_job(desk.connection_id))
        await drain(strict)

    assert canary.accepts == 0
    assert await states(pool) == {"fan-out completed": 1, "deliver-webhook delayed": 1}
    error = await pool.fetchval("SELECT last_error FROM webhook_deliveries")
    assert error.startswith("WEBHOOK_TARGET_FORBIDDEN")


async def test_410_tells_the_other_endpoints_by_a_webhook_of_its_own(desk: Desk, pool: Pool, queues: Queues) -> None:
    gone = replying(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")

    async with serving(gone) as dying, serving() as watcher:
        await desk.endpoint(dying.url, events=["message.*"])
        await desk.endpoint(watcher.url, events=["webhook.*"])
        await desk.event()
        await enqueue(queues, fan_out_job(desk.connection_id))
        await drain(queues)

    [body] = bodies(watcher)
    told = json.loads(body)
    assert told["event"] == "webhook.disabled"
    assert told["payload"]["url"] == dying.url
    assert (await states(pool))["deliver-webhook failed"] == 1


@pytest.mark.parametrize("point", ["webhook_before_post", "webhook_after_post"])
async def test_a_worker_killed_around_the_post_loses_nothing_and_repeats_the_same_bytes(
    desk: Desk, pool: Pool, queues: Queues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    # This process has read its settings; the one that it starts has not.
    monkeypatch.setenv("ZAPHUB_FAILPOINT", point)
    monkeypatch.setenv("ZAPHUB_FAILPOINT_DIR", str(tmp_path))
    async with serving() as server:
        await desk.endpoint(server.url)
        await desk.event()
        await enqueue(queues, fan_out_job(desk.connection_id))

        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER)
        assert await worker.wait() == -signal.SIGKILL
        # What the sweep does when the dead worker's lease has lapsed.
        await pool.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'active'")
        await pool.fetch("SELECT * FROM ledger_sweep_v1(100)")
        await drain(queues)

    got = bodies(server)
    assert len(got) == (2 if point == "webhook_after_post" else 1)
    assert len(set(got)) == 1
    assert await pool.fetchval("SELECT status FROM webhook_deliveries") == "delivered"


async def test_a_job_that_names_nothing_is_a_dead_letter_at_once(desk: Desk, pool: Pool, queues: Queues) -> None:
    endpoint = (await desk.endpoint()).endpoint
    good = delivery_job(
        delivery_id_of(endpoint.id, desk.connection_id), endpoint_id=endpoint.id, connection_id=desk.connection_id
    )
    wrong = [
        NewJob(queue=QUEUE, job_id="a", name="deliver-webhook", data={"deliveryId": "no uuid"}),
        NewJob(queue=QUEUE, job_id="b", name="fan-out", data={"sessionId": 7}),
    ]

    await enqueue(queues, good, *wrong)
    await drain(queues)

    assert await states(pool) == {
        "deliver-webhook cancelled": 1,
        "deliver-webhook failed": 1,
        "fan-out failed": 1,
    }
