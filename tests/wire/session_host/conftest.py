"""A real session host in child processes, on a fresh database, against the fake WhatsApp server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from shared.db import connections, hosts
from shared.db.hosts import Owner
from shared.db.pool import Pool, open_pool
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.hosts.client import HostClient

T = TypeVar("T")

HOST_TOKEN = "a-host-token-for-tests"
REPO = Path(__file__).resolve().parents[3]
CONNECTOR = "local.fake_whatsapp.connector:install"


@pytest.fixture(scope="session")
def until() -> Callable[..., Awaitable[Any]]:
    """Return a function that asks again until the answer is true, or fails after its deadline."""

    async def wait(look: Callable[[], Awaitable[T]], *, within_s: float = 20) -> T:
        deadline = time.monotonic() + within_s
        while not (found := await look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"still {found!r} after {within_s} s")
            await asyncio.sleep(0.02)
        return found

    return wait


class FakeServer:
    """The fake WhatsApp server's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        assert answer.is_success, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else {}

    def clear_faults(self) -> None:
        self._http.delete("/faults")

    def wire(self, session_phone: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/wire", params={"session_phone": session_phone}).json()["data"]
        return found

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/sessions").json()["data"]
        return found


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """One fake WhatsApp server for the module."""
    folder = tmp_path_factory.mktemp("fake")
    with (folder / "log").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.fake_whatsapp", "--data-dir", str(folder / "data")],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        server = FakeServer(json.loads(line)["control_url"])
        yield server
        server.close()
        process.terminate()
        process.wait(10)
        process.stdout.close()


class HostProcess:
    """`python -m session_host` with its own run directory; all hosts of a test share one data directory."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.run_dir = folder
        self.log = folder / "log"
        self._log = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "session_host", "--connector", CONNECTOR],
            cwd=REPO,
            env={**os.environ, **environment, "ZAPHUB_RUN_DIR": str(folder)},
            stdout=self._log,
            stderr=self._log,
        )

    def child_pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(json.loads((self.run_dir / "session-host-child-1.json").read_text())["pid"])
        return None

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._log.close()
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.stop()


class Stage:
    """A database, its hosts, and what a test asks of them."""

    def __init__(self, pool: Pool, client: HostClient, fake: FakeServer, until: Callable[..., Awaitable[Any]]) -> None:
        self.pool = pool
        self.client = client
        self.fake = fake
        self.until = until

    async def connection(self, *, label: str = "shop") -> ConnectionId:
        connection_id = ConnectionId(uuid4())
        async with self.pool.acquire() as connection:
            await connections.insert(
                connection,
                connection_id,
                tenant_id=DEFAULT_TENANT,
                label=label,
                external_id=None,
                config={},
                metadata={},
            )
        return connection_id

    async def row(self, connection_id: ConnectionId) -> Any:
        return await self.pool.fetchrow(
            "SELECT status, status_reason, qr_code, pair_code, device_jid, phone, host_id, lease_epoch FROM connections"
            " WHERE id = $1",
            connection_id,
        )

    async def status(self, connection_id: ConnectionId, *wanted: str, within_s: float = 20) -> Any:
        async def look() -> Any:
            row = await self.row(connection_id)
            return row if row["status"] in wanted else None

        return await self.until(look, within_s=within_s)

    async def pair(self, connection_id: ConnectionId, phone: str) -> None:
        """Open it, scan the QR code with this phone, wait until it is connected."""
        await self.client.open(connection_id)

        async def code() -> str | None:
            return (await self.row(connection_id))["qr_code"]

        self.fake.post("/scan", qr=await self.until(code), phone=phone)
        await self.status(connection_id, "connected")

    async def owner(self, connection_id: ConnectionId) -> Owner:
        found = await hosts.owner(self.pool, connection_id)
        assert found is not None
        return found

    async def jobs(self, queue: int) -> list[dict[str, Any]]:
        rows = await self.pool.fetch("SELECT data FROM jobs WHERE queue = $1 ORDER BY pk", queue)
        return [row["data"] for row in rows]


@pytest.fixture
def start_host(
    database_url: str, redis_url: str, fake: FakeServer, tmp_path: Path
) -> Iterator[Callable[..., HostProcess]]:
    """Return a function that starts a host; each is stopped at the end of the test."""
    started: list[HostProcess] = []

    def start(**extra: str) -> HostProcess:
        folder = tmp_path / f"host-{len(started) + 1}"
        folder.mkdir()
        host = HostProcess(
            folder,
            {
                "ZAPHUB_DATABASE_URL": database_url,
                "ZAPHUB_REDIS_URL": redis_url,
                "ZAPHUB_SECRET_KEY": "a-secret-key-for-tests",
                "ZAPHUB_HOST_TOKEN": HOST_TOKEN,
                "ZAPHUB_DATA_DIR": str(tmp_path / "data"),
                "ZAPHUB_FAKE_WHATSAPP_URL": fake.url,
                "ZAPHUB_HOST_LEASE_S": "3",
                **extra,
            },
        )
        started.append(host)
        return host

    yield start
    for host in started:
        host.end()
        print(f"--- {host.run_dir.name}\n{host.log.read_text()[-6000:]}")  # noqa: T201 - shown when a test fails


@pytest.fixture
async def stage(database_url: str, fake: FakeServer, until: Callable[..., Awaitable[Any]]) -> AsyncIterator[Stage]:
    pool = await open_pool(database_url, max_size=4)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {HOST_TOKEN}"}, trust_env=False) as http:
        yield Stage(pool, HostClient(pool, http, send_timeout_s=90), fake, until)
    fake.clear_faults()
    await pool.close()


@pytest.fixture
async def host(start_host: Callable[..., HostProcess], until: Callable[..., Awaitable[Any]]) -> HostProcess:
    """One host with one child, ready."""
    one = start_host()

    async def is_ready() -> bool:
        assert one.process.poll() is None, one.log.read_text()
        return (one.run_dir / "session-host.json").exists()

    await until(is_ready)
    return one
