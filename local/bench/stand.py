"""The test stand: a durable Postgres and Valkey of its own, fresh databases, and what the servers cost."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import redis

from local.bench.cpu import used_s
from local.data_dir import DataDir
from local.embedded import postgres, valkey
from local.embedded.postgres import EmbeddedPostgres
from local.embedded.serving import serving
from local.embedded.valkey import EmbeddedValkey
from local.environment import CHECKOUT, inherited
from shared.db.migrate import migrate
from shared.db.pool import connect

# Ignored by git; what peers install stays here from run to run.
CACHE: Final = CHECKOUT / ".zaphub" / "bench"
_TEMPLATE: Final = "bench_template"
_STAND: Final = "stand-"


@dataclass(frozen=True, slots=True)
class Stand:
    """Running servers and a scratch folder; everything goes with the block that made it."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    _pids: tuple[int, int]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def environment(self) -> dict[str, str]:
        """What a program inherits: ours, without the developer's own ZAPHUB_ settings."""
        return {name: value for name, value in inherited().items() if not name.upper().startswith("ZAPHUB_")}

    def new_folder(self) -> Path:
        """An empty folder for one program's records."""
        folder = self.folder / f"run-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def new_database(self, *, is_ours: bool) -> str:
        """The URL of a database that nobody used: migrated when it is ours, empty for a peer. Older ones go."""
        name = f"bench_{next(self._numbers)}"
        template = f" TEMPLATE {_TEMPLATE} STRATEGY file_copy" if is_ours else ""
        for old in self.ask("SELECT datname FROM pg_database WHERE datname ~ '^bench_[0-9]+$'"):
            self.ask(f'DROP DATABASE "{old}" WITH (FORCE)')
        self.ask(f"CREATE DATABASE {name}{template}")
        self.ask("CHECKPOINT")
        return self.postgres.url(name)

    def ask(self, statement: str, *parameters: object, url: str | None = None) -> list[object]:
        """The first column of what the statement gives."""
        return asyncio.run(_ask(url or self.postgres.url(), statement, parameters))

    def flush_valkey(self) -> None:
        """Leave nothing in Valkey."""
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()

    def valkey_bytes(self) -> int:
        """The memory that Valkey uses for data now."""
        with redis.Redis.from_url(self.valkey.url) as client:
            memory: dict[str, int] = client.info("memory")
        return memory["used_memory"]

    def database_bytes(self, url: str) -> int:
        """The size of every table and index of a database."""
        [size] = self.ask(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
            url=url,
        )
        return int(str(size))

    def cpu_s(self) -> float:
        """CPU seconds that both servers have used so far; NaN where nobody can tell."""
        return used_s(self._pids)

    def versions(self) -> dict[str, str]:
        """Which servers these are."""
        [postgres_version] = self.ask("SHOW server_version")
        with redis.Redis.from_url(self.valkey.url) as client:
            server: dict[str, str] = client.info("server")
        return {
            "postgres": str(postgres_version),
            "valkey": server.get("valkey_version") or server["redis_version"],
        }


@contextmanager
def stand() -> Iterator[Stand]:
    """Start the servers, durable: every commit is on the disk before it is answered, Valkey's log each second."""
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_what_a_killed_run_left()
    data_dir = DataDir(Path(tempfile.mkdtemp(prefix=_STAND, dir=CACHE)))
    with ExitStack() as held:
        held.callback(shutil.rmtree, data_dir.root, ignore_errors=True)
        held.enter_context(data_dir.claimed())
        sockets = held.enter_context(data_dir.sockets())
        private = sockets / "postgres"
        private.mkdir(mode=0o700)
        database = postgres.prepare(data_dir.postgres, sockets=private)
        # Not always inside the folder: see local/embedded/unprivileged.py.
        held.callback(shutil.rmtree, database.cluster.parent, ignore_errors=True)
        bell = valkey.prepare(data_dir.valkey, sockets=sockets)
        postgres_pid = held.enter_context(serving(database, log=data_dir.root / "postgres.log"))
        valkey_pid = held.enter_context(serving(bell, log=data_dir.root / "valkey.log"))
        made = Stand(data_dir.root, database, bell, (postgres_pid, valkey_pid))
        made.ask(f"CREATE DATABASE {_TEMPLATE}")
        asyncio.run(migrate(database.url(_TEMPLATE)))
        yield made


def _remove_what_a_killed_run_left() -> None:
    for folder in CACHE.glob(f"{_STAND}*"):
        left = DataDir(folder)
        if left.is_claimed():
            continue
        with left.sockets():
            pass  # making a new folder for sockets removes the one that was left
        shutil.rmtree(folder, ignore_errors=True)


async def _ask(url: str, statement: str, parameters: Sequence[object]) -> list[object]:
    async with connect(url) as connection:
        return [row[0] for row in await connection.fetch(statement, *parameters)]
