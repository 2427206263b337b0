"""Measure what a job costs Postgres, in CPU and in log (WAL): made, claimed, finished; see docs/decisions/0006.

Run it from the checkout: `PYTHONPATH=. .venv/bin/python tests/integration/ledger/per_job.py [BATCH]`. It starts a
durable Postgres of its own in a temporary folder and needs a minute, Linux and Postgres 18. `cpu` is microseconds a job
that the connection's process ran, the least of three rounds, as a busy machine only adds to it; `log` is bytes a job.
BATCH is how many jobs a claim and a finish hold, 100 by default.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.embedded import postgres
from local.embedded.serving import serving
from shared.db.migrate import migrate
from shared.db.pool import Connection, connect
from shared.domain.jobs import Job, NewJob, QueueName
from shared.queues import ledger
from shared.queues.ledger import Finish, FinishKind

ROUNDS = 3
JOBS = 6000
MADE_AT_ONCE = 500
# What our own jobs carry, and a kilobyte that does not repeat itself.
IDS = {"messageDbId": "0190a6f0-0000-7000-8000-000000000000", "sessionId": "0190a6f0-0000-7000-8000-000000000000"}
KILOBYTE = {"text": "".join(chr(97 + (n * n + 7 * n) % 26) for n in range(990))}


def _flat(_number: int) -> dict[str, Any]:
    return {"queue": QueueName.MESSAGE_STATUS}


def _grouped(number: int) -> dict[str, Any]:
    return {"queue": QueueName.MESSAGE_RECEIVE, "group": f"session-{number % 200}"}


def _in_chats(number: int) -> dict[str, Any]:
    # Five chats in each of 200 sessions; each message makes the next of its chat claimable.
    return {
        "queue": QueueName.MESSAGE_SEND,
        "group": f"session-{number % 200}",
        "order_key": f"chat-{number % 1000}",
        "expires_at": datetime.now(UTC) + timedelta(days=1),
    }


SHAPES = {
    "ids": (_flat, IDS),
    "1 KB": (_flat, KILOBYTE),
    "ids, 200 groups": (_grouped, IDS),
    "ids, 1,000 chats": (_in_chats, IDS),
    "1 KB, 1,000 chats": (_in_chats, KILOBYTE),
}


@dataclass(slots=True)
class Meter:
    """Adds up, per call, what one connection's Postgres process used."""

    conn: Connection
    cpu_us: dict[str, float] = field(default_factory=dict)
    log_bytes: dict[str, int] = field(default_factory=dict)

    async def __call__(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        log, cpu = await self._log(), self._cpu()
        result = await call()
        self.cpu_us[name] = self.cpu_us.get(name, 0) + self._cpu() - cpu
        self.log_bytes[name] = self.log_bytes.get(name, 0) + await self._log() - log
        return result

    def _cpu(self) -> float:
        """Microseconds; the first number of schedstat is nanoseconds."""
        return int(Path(f"/proc/{self.conn.get_server_pid()}/schedstat").read_text(encoding="ascii").split()[0]) / 1000

    async def _log(self) -> int:
        await self.conn.execute("SELECT pg_stat_force_next_flush()")
        return int(await self.conn.fetchval("SELECT wal_bytes FROM pg_stat_get_backend_wal(pg_backend_pid())"))


async def _round(conn: Connection, shape: str, *, batch: int) -> Meter:
    fields, data = SHAPES[shape]
    jobs = [NewJob(job_id=f"job-{n}", name="test", data=data, **fields(n)) for n in range(JOBS)]
    meter = Meter(conn)
    for start in range(0, JOBS, MADE_AT_ONCE):
        await meter("make", lambda part=jobs[start : start + MADE_AT_ONCE]: ledger.enqueue(conn, part))  # type: ignore[misc]
    await conn.execute("VACUUM ANALYZE jobs, job_groups")
    while held := await meter("claim", lambda: ledger.claim(conn, slots={jobs[0].queue: batch}, worker="w")):
        await meter("finish", lambda ended=held: ledger.finish(conn, [_done(job) for job in ended]))  # type: ignore[misc]
    await conn.execute("TRUNCATE jobs, job_groups, job_counts, job_count_changes")
    return meter


def _done(job: Job) -> Finish:
    return Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=FinishKind.DONE)


async def _main(database_url: str, *, batch: int) -> None:
    await migrate(database_url)
    async with connect(database_url) as conn:
        # Every claim comes with what it may hold, so that only the ledger's work is measured.
        await conn.execute("UPDATE queues SET rate_per_minute = 0")
        for shape in SHAPES:
            rounds = [await _round(conn, shape, batch=batch) for _ in range(ROUNDS)]
            costs = [
                f"{name} cpu {min(one.cpu_us[name] for one in rounds) / JOBS:6.1f} "
                f"log {min(one.log_bytes[name] for one in rounds) / JOBS:6.0f}"
                for name in ("make", "claim", "finish")
            ]
            sys.stdout.write(f"{shape:20} {' | '.join(costs)}\n")
            sys.stdout.flush()


def main() -> None:
    """Print one line per shape of jobs."""
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="zhm-") as folder:
        sockets = Path(folder) / "sockets"
        sockets.mkdir(mode=0o700)
        server = postgres.prepare(Path(folder) / "data", sockets=sockets)
        with serving(server, log=Path(folder) / "log"):
            asyncio.run(_main(server.url(), batch=batch))


if __name__ == "__main__":
    main()
