"""ZapHub as a contender, and the floor below it: the same batched SQL in a bare loop."""

import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.bench.contender import Command, Work
from local.bench.producing import Order
from local.bench.stand import Stand

# Every rate rule is on, and none holds back a run: the most that the setting takes.
_RATE_PER_MINUTE: Final = 100_000


@dataclass(slots=True)
class ZapHub:
    """The stock `taskiq worker`, Postgres durable, Valkey for the bell, everything at its default but what is named."""

    stand: Stand
    name: str = "zaphub"
    log_level: str = "info"
    jobs_scale: float = 1.0
    database_url: str = field(default="", init=False)

    def reset(self) -> None:
        """A fresh database and no bell waiting."""
        self.database_url = self.stand.new_database(is_ours=True)
        self.stand.flush_valkey()

    def producer(self, order: Order) -> Command:
        """`each` and `paced` call `task.kiq`, `bulk` enqueues batches in transactions."""
        return Command(words=_python("zaphub_producer", order.to_json()), environment=self._environment(1))

    def worker(self, work: Work) -> Command:
        """One worker process."""
        taskiq = Path(sys.executable).with_name("taskiq")
        words: list[str | Path] = [taskiq, "worker", "local.bench.zaphub_worker:broker", "--workers", "1"]
        return Command(words=words, environment=self._environment(work.concurrency) | recording(work))

    def stored_bytes(self) -> int:
        """Tables and indexes."""
        return self.stand.database_bytes(self.database_url)

    def _environment(self, concurrency: int) -> dict[str, str]:
        queues = ("message:status", "message:send", "message:receive")
        return {
            "ZAPHUB_DATABASE_URL": self.database_url,
            "ZAPHUB_REDIS_URL": self.stand.valkey.url,
            "ZAPHUB_SECRET_KEY": secrets.token_urlsafe(32),
            "ZAPHUB_LOG_LEVEL": self.log_level,
            "ZAPHUB_CONCURRENCY": ",".join(f"{queue}={concurrency}" for queue in queues),
            "ZAPHUB_SEND_RATE_PER_MINUTE": str(_RATE_PER_MINUTE),
        }


@dataclass(slots=True)
class Floor(ZapHub):
    """Claims and finishes batches of 100 with nothing around them: what the SQL itself allows."""

    name: str = "floor"

    def worker(self, work: Work) -> Command:
        """The bare loop; it knows no concurrency, as a job is over before the next begins."""
        return Command(words=_python("floor_worker"), environment=self._environment(1) | recording(work))


def recording(work: Work) -> dict[str, str]:
    """What the programs of this package are told about their records."""
    return {"BENCH_RECORDS": str(work.records), "BENCH_IMMEDIATE": "1" if work.is_immediate else ""}


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"local.bench.{module}", *arguments]
