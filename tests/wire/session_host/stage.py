"""What the wire tests work with: the fake server's control API, host processes, and a database that they share."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from shared.db import connections, hosts
from shared.db.hosts import Owner
from shared.db.pool import Pool, Record
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.hosts import protocol
from shared.hosts.client import HostClient

T = TypeVar("T")

HOST_TOKEN = "a-host-token-for-tests"
REPO = Path(__file__).resolve().parents[3]
CONNECTOR = "local.fake_whatsapp.connector:install"
CONTACT = "5511999990001"
RECEIVE, STATUS = 3, 5  # the queues' numbers in the ledger


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 60) -> T:
    """Ask again until the answer is true, or fail after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {within_s} s")
        await asyncio.sleep(0.02)
    return found


class FakeServer:
    """The fake WhatsApp server's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        assert answer.is_success, (path, answer.status_code, answer.text)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def clear_faults(self) -> None:
        self._http.delete("/faults")

    def wire(self, session_phone: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/wire", params={"session_phone": session_phone}).json()["data"]
        return found

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/sessions").json()["data"]
        return found


class HostProcess:
    """`python -m session_host` with its own run directory; all hosts of a test share one data directory."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.run_dir = folder
        self.log = folder / "log"
        self._log = self.log.open("w")
        # With the environment that the tests run in, as the part gets it from its own supervisor.
        inherited = dict(os.environ)  # noqa: TID251 - handed on, not read
        self.process = subprocess.Popen(
            [sys.executable, "-m", "session_host", "--connector", CONNECTOR],
            cwd=REPO,
            env={**inherited, **environment, "ZAPHUB_RUN_DIR": str(folder)},
            stdout=self._log,
            stderr=self._log,
        )

    def child_pid(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(json.loads((self.run_dir / "session-host-child-1.json").read_text())["pid"])
        return None

    async def until_ready(self, *, but: int | None = None) -> int:
        """The pid of the child that is ready, another than `but`."""

        async def look() -> int | None:
            assert self.process.poll() is None, self.log.read_text()
            pid = self.child_pid()
            return pid if pid != but else None

        pid = await until(look)
        assert pid is not None
        return pid

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._log.close()
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.stop()
        self._log.close()


@dataclass(frozen=True, slots=True)
class Stage:
    """A database, and what a test asks of the hosts on it."""

    pool: Pool
    client: HostClient
    fake: FakeServer

    async def connection(self) -> ConnectionId:
        connection_id = ConnectionId(uuid4())
        async with self.pool.acquire() as connection:
            await connections.insert(
                connection,
                connection_id,
                tenant_id=DEFAULT_TENANT,
                label="shop",
                external_id=None,
                config={},
                metadata={},
            )
        return connection_id

    async def row(self, connection_id: ConnectionId) -> Record:
        found = await self.pool.fetchrow("SELECT * FROM connections WHERE id = $1", connection_id)
        assert found is not None
        return found

    async def until_status(self, connection_id: ConnectionId, wanted: str, *, above_epoch: int = 0) -> Record:
        async def look() -> Record | None:
            row = await self.row(connection_id)
            return row if row["status"] == wanted and row["lease_epoch"] > above_epoch else None

        found = await until(look)
        assert found is not None
        return found

    async def until_qr(self, connection_id: ConnectionId) -> str:
        async def look() -> str | None:
            code: str | None = (await self.row(connection_id))["qr_code"]
            return code

        return str(await until(look))

    async def pair(self, connection_id: ConnectionId, phone: str) -> Owner:
        """Open it, scan the QR code with this phone, wait until it is connected."""
        await self.client.open(connection_id)
        self.fake.post("/scan", {"qr": await self.until_qr(connection_id), "phone": phone})
        await self.until_status(connection_id, "connected")
        return await self.owner(connection_id)

    async def owner(self, connection_id: ConnectionId) -> Owner:
        found = await hosts.owner(self.pool, connection_id)
        assert found is not None
        return found

    async def until_jobs(self, queue: int, *, count: int = 1) -> list[dict[str, Any]]:
        async def look() -> list[dict[str, Any]] | None:
            rows = await self.pool.fetch("SELECT data FROM jobs WHERE queue = $1 ORDER BY position", queue)
            return [row["data"] for row in rows] if len(rows) >= count else None

        return await until(look) or []

    def inbound(self, phone: str, text: str) -> str:
        """A contact writes; the wire id."""
        return str(self.fake.post("/inbound", {"session_phone": phone, "from": CONTACT, "text": text})["wire_id"])


def send_command(connection_id: ConnectionId, owner: Owner, *, text: str, to: str = CONTACT) -> protocol.Send:
    return protocol.Send(
        connection_id=connection_id,
        message_id=uuid4(),
        send_no=1,
        secret=os.urandom(32),
        epoch=owner.epoch,
        to=f"{to}@s.whatsapp.net",
        type="text",
        payload={"text": text},
    )


def lookup_of(command: protocol.Send, owner: Owner) -> protocol.Lookup:
    """The lookup of a try that was begun with this owner."""
    assert owner.device_jid is not None
    return protocol.Lookup(
        connection_id=command.connection_id,
        message_id=command.message_id,
        send_no=command.send_no,
        secret=command.secret,
        send_host=owner.host_id,
        send_epoch=owner.epoch,
        send_device=owner.device_jid,
    )
