"""Whole services under the bench: an HTTP door, and behind it, if wanted, what sends the messages."""

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from local import part
from local.bench.program import Program, running
from local.bench.stand import Stand
from local.ports import free_port

_SESSIONS: Final = 200
_HOST: Final = "bench-host"
# Messages of one worker that are sent at once: as in the seed, and the default of ours.
AT_ONCE: Final = 5
_REGISTER: Final = "INSERT INTO hosts (id, address, capacity) VALUES ($1, $2, 1000)"
# $1 host, $2 how many.
_CONNECTIONS: Final = """
INSERT INTO connections (id, tenant_id, label, status, device_jid, phone, host_id, lease_epoch, lease_until)
SELECT gen_random_uuid(), (SELECT id FROM tenants LIMIT 1), 'bench ' || n, 'connected',
       5511900000000 + n || ':1@s.whatsapp.net', 5511900000000 + n, $1, 1, now() + interval '1 day'
  FROM generate_series(1, $2::int) n
RETURNING id::text
"""


@dataclass(frozen=True, slots=True)
class Door:
    """Where to POST, for which sessions, and the database whose `messages` become `sent`.

    `programs` are the service's own: what stands for WhatsApp is not among them.
    """

    port: int
    sessions: Sequence[str]
    database_url: str
    headers: dict[str, str]
    programs: Sequence[Program]


class System(Protocol):
    """A service. `takes_batches`: it has a call for several messages at once."""

    @property
    def name(self) -> str: ...
    @property
    def takes_batches(self) -> bool: ...
    def open(self, *, with_worker: bool) -> AbstractContextManager[Door]:
        """Run it on an empty database for the length of the block; it may take seconds before it answers."""


@dataclass(frozen=True, slots=True)
class ZapHubService:
    """One API process, one worker, and a stub in the place of the session host; settings are default but the rate's."""

    stand: Stand
    name: str = "zaphub"
    takes_batches: bool = True
    at_once: int = AT_ONCE

    @contextmanager
    def open(self, *, with_worker: bool) -> Iterator[Door]:
        """See System."""
        url = self.stand.new_database(is_ours=True)
        self.stand.flush_valkey()
        port, host_port = free_port("127.0.0.1"), free_port("127.0.0.1")
        sessions = [str(one) for one in self.stand.ask(_CONNECTIONS, _HOST, _SESSIONS, url=url)]
        self.stand.ask(_REGISTER, _HOST, f"http://127.0.0.1:{host_port}", url=url)
        key = secrets.token_urlsafe(32)
        environment = self.stand.environment() | {
            "ZAPHUB_DATABASE_URL": url,
            "ZAPHUB_REDIS_URL": self.stand.valkey.url,
            "ZAPHUB_ADMIN_KEY": key,
            "ZAPHUB_SECRET_KEY": secrets.token_urlsafe(32),
            "ZAPHUB_HOST_TOKEN": secrets.token_urlsafe(32),
            "ZAPHUB_SEND_RATE_PER_MINUTE": "0",
            "ZAPHUB_CONCURRENCY": f"message:send={self.at_once}",
        }
        commands = {"api": part.api_command(host="127.0.0.1", port=port)}
        if with_worker:
            commands["worker"] = [*part.worker_command(), "--log-level", "WARNING"]
        host = {"host": [sys.executable, "-m", "local.bench.host_stub", str(host_port)]}
        with (
            _all_running(self.stand, host, environment),
            _all_running(self.stand, commands, environment) as programs,
        ):
            yield Door(port, sessions, url, {"Authorization": f"Bearer {key}"}, programs)


@dataclass(frozen=True, slots=True)
class SeedNode:
    """The seed's design, see tests/bench/seed_node: one API process and one worker process."""

    stand: Stand
    folder: Path
    name: str = "seed-node"
    takes_batches: bool = False
    at_once: int = AT_ONCE

    @contextmanager
    def open(self, *, with_worker: bool) -> Iterator[Door]:
        """See System."""
        url = self.stand.new_database(is_ours=False)
        self.stand.flush_valkey()
        sources = self.folder / "seed_node"
        for statement in (sources / "schema.sql").read_text(encoding="utf-8").split(";\n"):
            self.stand.ask(statement, url=url)
        port = free_port("127.0.0.1")
        spec = json.dumps(
            {"postgres": url, "redis": str(self.stand.valkey.socket), "port": port, "concurrency": self.at_once}
        )
        commands = {"api": ["node", str(sources / "api.mjs"), spec]}
        if with_worker:
            commands["worker"] = ["node", str(sources / "worker.mjs"), spec]
        environment = self.stand.environment() | {"NODE_ENV": "production"}
        with _all_running(self.stand, commands, environment) as programs:
            yield Door(port, _new_sessions(), url, {}, programs)


@dataclass(frozen=True, slots=True)
class BareFastApi:
    """One route with one INSERT; it sends nothing."""

    stand: Stand
    name: str = "bare-fastapi"
    takes_batches: bool = False

    @contextmanager
    def open(self, *, with_worker: bool) -> Iterator[Door]:  # noqa: ARG002 - it has none
        """See System."""
        url = self.stand.new_database(is_ours=False)
        port = free_port("127.0.0.1")
        command = [sys.executable, "-m", "uvicorn", "local.bench.bare_fastapi:app", "--port", str(port)]
        environment = self.stand.environment() | {"BENCH_DATABASE_URL": url}
        with _all_running(self.stand, {"api": [*command, "--no-access-log"]}, environment) as programs:
            yield Door(port, _new_sessions(), url, {}, programs)


def _new_sessions() -> list[str]:
    return [str(uuid4()) for _ in range(_SESSIONS)]


@contextmanager
def _all_running(stand: Stand, commands: dict[str, list[str]], environment: dict[str, str]) -> Iterator[list[Program]]:
    folder = stand.new_folder()
    with ExitStack() as held:
        yield [
            held.enter_context(running(command, environment=environment, folder=folder, log=folder / f"{name}.log"))
            for name, command in commands.items()
        ]
