"""Measure the ledger with a million waiting jobs and a million ended ones; the numbers are in docs/decisions/0003.

Run it from the checkout: `PYTHONPATH=. .venv/bin/python tests/integration/ledger/at_a_million.py [JOBS]`. It starts a
durable Postgres of its own in a temporary folder and needs about two minutes, 1 GB and Linux. `wall` is milliseconds,
the median of the rounds; `cpu` is what Postgres itself worked, which a busy machine changes less.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from local.embedded import postgres
from local.embedded.serving import serving
from shared.db.migrate import migrate
from shared.db.pool import Connection, connect
from shared.domain.jobs import Job, JobState, NewJob, QueueName
from shared.queues import admin, ledger
from shared.queues.ledger import Finish, FinishKind
from shared.queues.metrics import queue_metrics

GROUPED, UNGROUPED = QueueName.MESSAGE_SEND, QueueName.MESSAGE_RECEIVE
# Half without a group; half in 5,000 groups and 100,000 chats.
WAITING = """
INSERT INTO jobs (job_key, dedupe, queue, name, state, priority, max_attempts, grp, ord, position, data,
                  run_at, expires_at)
SELECT 'waiting-' || i, 'live', CASE WHEN i % 2 = 0 THEN 4 ELSE 3 END, 'test',
       CASE WHEN i % 2 = 0 AND i / 2 >= 100000 THEN 'blocked' ELSE 'waiting' END, 5, 6,
       CASE WHEN i % 2 = 0 THEN 'g' || (i / 2) % 5000 END, CASE WHEN i % 2 = 0 THEN 'c' || (i / 2) % 100000 END,
       nextval('ledger_positions'), '{"messageDbId": "0190a6f0-0000-7000-8000-000000000000"}',
       now(), now() + interval '1 day'
  FROM generate_series(0, $1::int - 1) i
"""
GROUPS = """
INSERT INTO job_groups (queue, grp, pending)
SELECT queue, grp, count(*) FILTER (WHERE state = 'waiting')
  FROM jobs WHERE grp IS NOT NULL GROUP BY queue, grp
"""
ENDED = """
INSERT INTO jobs (job_key, queue, name, state, priority, max_attempts, position, data, finished_at)
SELECT 'ended-' || i, 5, 'test', 'completed', 7, 4, i, '{"messageDbId": "0190a6f0-0000-7000-8000-000000000000"}',
       now() - interval '2 hours' + i * interval '1 millisecond'
  FROM generate_series(1, $1::int) i
"""
TICK = os.sysconf("SC_CLK_TCK")


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK * 1000


class Stopwatch:
    """Times calls of one connection, of whose Postgres process it reads the CPU time."""

    def __init__(self, conn: Connection) -> None:
        self._pid = conn.get_server_pid()

    async def __call__(self, what: str, call: Callable[[], Awaitable[object]], *, rounds: int = 20) -> None:
        cpu, walls = _cpu_ms(self._pid), []
        for _ in range(rounds):
            began = time.perf_counter()
            await call()
            walls.append((time.perf_counter() - began) * 1000)
        cpu = (_cpu_ms(self._pid) - cpu) / rounds
        sys.stdout.write(f"{what:50} wall {statistics.median(walls):8.1f}  cpu {cpu:8.2f}\n")
        sys.stdout.flush()


async def _measure(conn: Connection, jobs: int) -> None:
    watch = Stopwatch(conn)
    await watch("an empty ledger's numbers", lambda: queue_metrics(conn))
    for fill, count in ((WAITING, jobs), (ENDED, jobs)):
        await conn.execute(fill, count)
    await conn.execute(GROUPS)
    await conn.execute("VACUUM ANALYZE jobs, job_groups")
    await watch("numbers", lambda: queue_metrics(conn))
    held: list[Job] = []
    for queue in (UNGROUPED, GROUPED):
        for count in (5, 100):
            await watch(f"claim {count} of {queue}", lambda q=queue, n=count: _claim(conn, held, q, n))  # type: ignore[misc]
            await watch(f"finish {count} of {queue}", lambda n=count: _finish(conn, held, n))  # type: ignore[misc]
    await watch("enqueue 50 into 50 groups", lambda: _enqueue(conn))
    await watch("sweep", lambda: ledger.sweep(conn))
    await watch("next due", lambda: ledger.next_due_s(conn, list(QueueName)))
    await conn.execute("UPDATE job_groups SET tat = now() + interval '1 hour'")
    await watch("claim, 5,000 groups limited", lambda: _claim(conn, held, GROUPED, 5))
    await conn.execute("UPDATE job_groups SET tat = 'epoch', reasons = '{connection_offline}'")
    await conn.execute("VACUUM job_groups")
    await watch("claim, 5,000 groups paused", lambda: _claim(conn, held, GROUPED, 5))
    await watch("numbers, half a million parked", lambda: queue_metrics(conn))
    rounds = jobs // admin.CLEAN_BATCH - 1
    await watch(f"clean {admin.CLEAN_BATCH}, {rounds} times", lambda: _clean(conn), rounds=rounds)


async def _claim(conn: Connection, held: list[Job], queue: QueueName, count: int) -> None:
    held += await ledger.claim(conn, slots={queue: count}, worker="w")


async def _finish(conn: Connection, held: list[Job], count: int) -> None:
    some, held[:] = held[:count], held[count:]
    await ledger.finish(conn, [Finish(pk=j.pk, fence=j.fence, queue=j.queue, kind=FinishKind.DONE) for j in some])


async def _enqueue(conn: Connection) -> None:
    new = [
        NewJob(queue=GROUPED, job_id=f"{time.time_ns()}-{n}", name="test", data={}, group=f"g{n}", order_key="new")
        for n in range(50)
    ]
    await ledger.enqueue(conn, new)


async def _clean(conn: Connection) -> None:
    await admin.clean(conn, QueueName.MESSAGE_STATUS, JobState.COMPLETED, older_than_s=3600, keep=100)


async def _main(database_url: str, jobs: int) -> None:
    await migrate(database_url)
    async with connect(database_url) as conn:
        await _measure(conn, jobs)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zhm-") as folder:
        sockets = Path(folder) / "sockets"
        sockets.mkdir(mode=0o700)
        server = postgres.prepare(Path(folder) / "data", sockets=sockets)
        with serving(server, log=Path(folder) / "log"):
            asyncio.run(_main(server.url(), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))


if __name__ == "__main__":
    main()
