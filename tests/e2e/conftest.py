"""`./zh up --fake-whatsapp` as a user starts it, and what a user's programs do with it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from aiohttp import web

T = TypeVar("T")

_ROOT = Path(__file__).parents[2]
_READY_S = 90.0


async def until(look: Callable[[], Awaitable[T | None]], *, within_s: float, what: str) -> T:
    """What `look` gives once it gives something; fails naming `what` when it does not in time."""
    end = time.monotonic() + within_s
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {within_s:g} s"
        await asyncio.sleep(0.1)


@dataclass
class Stack:
    """A running ZapHub. `pids` is read anew each time: a killed part comes back under another pid."""

    ready_file: Path
    api: httpx.AsyncClient
    phones: httpx.AsyncClient

    def ready(self) -> dict[str, Any]:
        return _read(self.ready_file)

    async def kill(self, *parts: str) -> None:
        """SIGKILL the parts, and return when others stand in their place."""
        before = {part: self.ready()["pids"][part] for part in parts}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        async def replaced() -> bool:
            pids = self.ready()["pids"]
            return all(pids.get(part, pid) != pid for part, pid in before.items())

        await until(replaced, within_s=60, what=f"{', '.join(parts)} came back")

    async def pair(self, phone: str, *, webhook_url: str | None = None) -> dict[str, Any]:
        """A connection that the phone has linked by its QR code, and the answer that made it."""
        answer = await self.api.post("/connections", json={"label": "e2e", "webhook_url": webhook_url})
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        where = f"/connections/{made['connection']['id']}"
        code = await self.api.get(f"{where}/qr", params={"wait": 25}, headers={"Accept": "application/json"})
        assert code.status_code == 200, code.text
        scanned = await self.phones.post("/scan", json={"qr": code.json()["code"], "phone": phone})
        assert scanned.status_code == 200, scanned.text

        async def connected() -> bool:
            return bool((await self.api.get(where)).json()["status"] == "connected")

        await until(connected, within_s=30, what="connected")
        return made

    async def messages(self, connection: str) -> list[dict[str, Any]]:
        """Every message of the connection, newest first."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.api.get(f"/connections/{connection}/messages", params={"limit": 200, **cursor})
            page = answer.json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    async def wire(self, phone: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.phones.get("/wire", params={"session_phone": phone})).json()["data"]
        return found


@dataclass
class Sink:
    """A customer's webhook receiver: what came, by webhook-id, as (headers, body) in order."""

    url: str = ""
    got: dict[str, list[tuple[dict[str, str], bytes]]] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.got.setdefault(headers["webhook-id"], []).append((headers, body))
        return web.Response(status=204)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with listening() as sink:
        yield sink


@asynccontextmanager
async def listening() -> AsyncIterator[Sink]:
    """A sink on a port of its own."""
    sink = Sink()
    app = web.Application()
    app.router.add_post("/hook", sink.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sink.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield sink
    await runner.cleanup()


@pytest.fixture
def failpoint() -> str:
    """Where a part dies, once; a test overrides it by parametrizing `failpoint`. Empty: nowhere."""
    return ""


@pytest.fixture
def supervisor(tmp_path: Path, failpoint: str) -> Iterator[Path]:
    with supervised(tmp_path, failpoint=failpoint) as ready:
        yield ready


@contextmanager
def supervised(
    tmp_path: Path, *, failpoint: str = "", options: Sequence[str] = (), fake_whatsapp_url: str = ""
) -> Iterator[Path]:
    """`./zh up` with all embedded and these options; its ready file. Ended by SIGTERM, which must give exit code 0.

    Its data folder is `tmp_path / "data"`, and its WhatsApp one of its own unless another is named.
    """
    ready = tmp_path / "ready.json"
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - what a child process is started with
        "HOME": str(tmp_path),
        "ZAPHUB_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
        "ZAPHUB_SEND_RATE_PER_MINUTE": "0",
        "ZAPHUB_FAILPOINT": failpoint,
        "ZAPHUB_FAILPOINT_DIR": str(tmp_path),
        "ZAPHUB_FAKE_WHATSAPP_URL": fake_whatsapp_url,
    }
    whatsapp = [] if fake_whatsapp_url else ["--fake-whatsapp"]
    command = [sys.executable, "-m", "local.cli", "up", *whatsapp, "--port", "0", *options]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), "--data-dir", str(tmp_path / "data")],
            cwd=_ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + _READY_S
            while not ready.exists():
                said = (tmp_path / "up.log").read_text(encoding="utf-8", errors="replace")
                assert process.poll() is None, said
                assert time.monotonic() < end, said
                time.sleep(0.1)  # a condition is waited for: the ready file
            yield ready
        finally:
            process.terminate()
            code = process.wait(timeout=60)
    assert code == 0, (tmp_path / "up.log").read_text(encoding="utf-8", errors="replace")[-4000:]


def _read(ready_file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
    return found


@pytest.fixture
async def stack(supervisor: Path) -> AsyncIterator[Stack]:
    async with clients_of(supervisor) as stack:
        yield stack


@asynccontextmanager
async def clients_of(supervisor: Path) -> AsyncIterator[Stack]:
    """What talks to a running ZapHub and to the phones of its fake WhatsApp."""
    ready = _read(supervisor)
    async with (
        httpx.AsyncClient(
            base_url=ready["api_url"], headers={"Authorization": f"Bearer {ready['api_key']}"}, timeout=60
        ) as api,
        httpx.AsyncClient(base_url=ready["fake_whatsapp_url"], timeout=60) as phones,
    ):
        yield Stack(ready_file=supervisor, api=api, phones=phones)
