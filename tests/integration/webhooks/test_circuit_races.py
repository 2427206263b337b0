"""Workers that fail and succeed, sweeps, and people who change the endpoint, all at the same moment."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from functions.resources import open_resources
from shared.db import webhook_circuits as circuits
from shared.db import webhooks
from shared.db.pool import Connection, Pool
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.webhook import fan_out_job
from shared.queues.drain import Drain
from shared.queues.runtime import Queues, retry_collisions
from tests.integration.webhooks.conftest import QUEUE, WORK, Desk, drain, enqueue
from tests.integration.webhooks.servers import OK, Play, replying, serving

REFUSED = replying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
EVENTS = 60


async def test_nothing_is_lost_stuck_or_counted_wrong(desk: Desk, pool: Pool, queues: Queues) -> None:
    numbers = itertools.count()
    is_well = False

    async def mostly_failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        play: Play = OK if is_well or next(numbers) % 12 == 11 else REFUSED
        await play(reader, writer)

    async with serving(mostly_failing) as server, open_resources(queues) as resources:
        endpoint = (await desk.endpoint(server.url)).endpoint
        for _ in range(EVENTS):
            await desk.event()
        await enqueue(queues, fan_out_job(desk.connection_id))

        async def work() -> None:
            for _ in range(5):
                await Drain(queues, {QUEUE: WORK}, resources, slots={QUEUE: 3}, worker="test").until_idle()

        async def meddle(change: Callable[[Connection], Awaitable[object]]) -> None:
            async def once() -> None:
                async with queues.transaction() as tx:
                    await webhooks.get(tx.connection, endpoint.id, tenant_id=DEFAULT_TENANT, lock=True)
                    await change(tx.connection)
                    tx.ring(QUEUE)

            for _ in range(15):
                await retry_collisions(once)
                await pool.execute("UPDATE webhook_circuits SET probe_at = now() WHERE probe_at IS NOT NULL")

        async def let_probe(connection: Connection) -> None:
            await circuits.probe_due(connection)

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
            tasks.create_task(work())
            tasks.create_task(meddle(let_probe))
            tasks.create_task(meddle(lambda it: circuits.probe(it, endpoint.id)))
            tasks.create_task(meddle(lambda it: webhooks.update(it, endpoint, headers_sealed=None)))
            tasks.create_task(meddle(lambda it: webhooks.set_enabled(it, endpoint.id, enabled=True)))
        is_well = True
        async with pool.acquire() as connection:
            await circuits.close(connection, endpoint.id)
        await pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'")
        await pool.fetch("SELECT * FROM ledger_sweep_v1(500)")
        await drain(queues)

    rows = await pool.fetch("SELECT status, count(*) AS n FROM webhook_deliveries GROUP BY 1")
    group = await pool.fetchrow(
        "SELECT pending, busy, cap, reasons FROM job_groups WHERE grp = $1", f"endpoint:{endpoint.id}"
    )
    assert {row["status"]: row["n"] for row in rows} == {"delivered": EVENTS}
    assert group is not None
    assert dict(group) == {"pending": 0, "busy": 0, "cap": None, "reasons": []}
