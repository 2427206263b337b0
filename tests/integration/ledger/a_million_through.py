"""Send a million jobs through the ledger and print how it grows; the numbers are in docs/decisions/0003.

Run it from the checkout: `PYTHONPATH=. .venv/bin/python tests/integration/ledger/a_million_through.py [JOBS]`. It
starts a durable Postgres of its own in a temporary folder and needs some minutes, 1 GB and Linux. A quarter of the
jobs have no group, a quarter one of 300 groups, and half belong to 2,000 chats in 200 of these; what ended 30 s ago is
deleted. `wall` is the median since the line before, in milliseconds.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from local.embedded import postgres
from local.embedded.serving import serving
from shared.db.migrate import migrate
from shared.db.pool import Connection, connect
from shared.domain.jobs import Job, JobState, NewJob, QueueName
from shared.queues import admin, ledger
from shared.queues.ledger import Finish, FinishKind

QUEUE: Final = QueueName.MESSAGE_RECEIVE
DATA: Final = {
    "messageDbId": "0190a6f0-0000-7000-8000-000000000000",
    "sessionId": "0190a6f0-0000-7000-8000-000000000000",
}
MADE_AT_ONCE: Final = 500
CLAIMED_AT_ONCE: Final = 100
KEPT_S: Final = 30.0
LINES: Final = 10
SIZES: Final = """
SELECT pg_table_size('jobs') / 1e6, pg_indexes_size('jobs') / 1e6, pg_total_relation_size('job_groups') / 1e6,
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'jobs'), (SELECT count(*) FROM jobs)
"""


def _new(number: int) -> NewJob:
    where: dict[str, Any] = {}
    if number % 4:
        where["group"] = f"g{number % 400}"
    if number % 2:
        where["order_key"] = f"c{number % 4000}"
    return NewJob(queue=QUEUE, job_id=f"job-{number}", name="test", data=DATA, **where)


def _done(job: Job) -> Finish:
    return Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=FinishKind.DONE)


async def _flow(conn: Connection, jobs: int) -> None:
    made = ended = 0
    claims: list[float] = []
    deletes: list[float] = []
    while ended < jobs:
        if made < jobs:
            await ledger.enqueue(conn, [_new(number) for number in range(made, made + MADE_AT_ONCE)])
            made += MADE_AT_ONCE
        for _ in range(MADE_AT_ONCE // CLAIMED_AT_ONCE):
            began = time.perf_counter()
            held = await ledger.claim(conn, slots={QUEUE: CLAIMED_AT_ONCE}, worker="w")
            claims.append(time.perf_counter() - began)
            await ledger.finish(conn, [_done(job) for job in held])
            before, ended = ended, ended + len(held)
            if before * LINES // jobs != ended * LINES // jobs:
                await _say(conn, ended, claims, deletes)
        began = time.perf_counter()
        if await admin.clean(conn, QUEUE, JobState.COMPLETED, older_than_s=KEPT_S, keep=0):
            deletes.append(time.perf_counter() - began)
        # What a worker's sweeper does each second.
        await ledger.sweep(conn)


async def _say(conn: Connection, ended: int, claims: list[float], deletes: list[float]) -> None:
    heap, indexes, groups, dead, rows = await conn.fetchrow(SIZES) or (0, 0, 0, 0, 0)
    walls = [statistics.median(times) * 1000 if times else 0 for times in (claims, deletes)]
    sys.stdout.write(
        f"{ended:>9} done  heap {heap:6.1f} MB  indexes {indexes:6.1f} MB  groups {groups:5.1f} MB  rows {rows:>7}  "
        f"dead {dead:>7}  claim wall {walls[0]:5.1f}  delete wall {walls[1]:5.1f}\n"
    )
    sys.stdout.flush()
    claims.clear()
    deletes.clear()


async def _main(database_url: str, jobs: int) -> None:
    await migrate(database_url)
    async with connect(database_url) as conn:
        await _flow(conn, jobs)


def main() -> None:
    """Print a line for each tenth of the jobs."""
    with tempfile.TemporaryDirectory(prefix="zhm-") as folder:
        sockets = Path(folder) / "sockets"
        sockets.mkdir(mode=0o700)
        server = postgres.prepare(Path(folder) / "data", sockets=sockets)
        with serving(server, log=Path(folder) / "log"):
            asyncio.run(_main(server.url(), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))


if __name__ == "__main__":
    main()
