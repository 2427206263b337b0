"""The two worlds that the client's contract runs in: a simulated WhatsApp, and neonize against the fake server."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import httpx

from local.fake_whatsapp.connector import install
from session_host.device_store import DeviceStore
from session_host.votes import PollSecret
from session_host.whatsapp import library
from session_host.whatsapp.port import ClientSpec, WhatsAppClient
from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared.db.pool import open_pool
from shared.domain.ids import WireId

REPO = Path(__file__).resolve().parents[3]


class Store(Protocol):
    async def has_device(self, device_jid: str) -> bool: ...
    async def poll_secrets(self, wire_ids: list[str]) -> dict[str, list[PollSecret]]: ...
    async def wire_id_of(self, secret: bytes, *, device_jid: str) -> WireId | None: ...


class World(Protocol):
    """What a test does to WhatsApp; numbers ending in 0000 are not on it."""

    store: Store

    def make_client(self, spec: ClientSpec) -> WhatsAppClient: ...
    async def scan(self, code: str, phone: str) -> None: ...
    async def inbound(self, phone: str, *, sender: str, text: str) -> str: ...
    async def receipt(self, phone: str, wire_id: WireId, status: str) -> None: ...
    async def log_out(self, phone: str) -> None: ...
    async def replace(self, phone: str) -> None: ...
    async def call(self, phone: str, *, caller: str, call_id: str) -> None: ...
    async def wire(self, phone: str) -> list[tuple[str, str]]: ...
    async def wire_types(self, phone: str) -> list[tuple[str, str]]: ...
    async def signals(self, phone: str) -> list[tuple[str, str]]: ...
    async def inbound_file(self, phone: str, *, sender: str, data: bytes) -> str: ...


class SimulatedWorld:
    """Everything in this process."""

    def __init__(self) -> None:
        self._server = SimulatedWhatsApp(not_on_whatsapp={"5511999990000"})
        self.store: Store = self._server

    def make_client(self, spec: ClientSpec) -> WhatsAppClient:
        return self._server.make_client(spec)

    async def scan(self, code: str, phone: str) -> None:
        self._server.scan(code, phone)

    async def inbound(self, phone: str, *, sender: str, text: str) -> str:
        # From another thread, as the library does it.
        return await asyncio.to_thread(self._server.inbound, phone, sender=sender, text=text)

    async def receipt(self, phone: str, wire_id: WireId, status: str) -> None:
        await asyncio.to_thread(self._server.receipt, phone, wire_id, status)

    async def log_out(self, phone: str) -> None:
        self._server.log_out(phone)

    async def replace(self, phone: str) -> None:
        self._server.replace(phone)

    async def call(self, phone: str, *, caller: str, call_id: str) -> None:
        self._server.call(phone, caller=caller, call_id=call_id)

    async def wire(self, phone: str) -> list[tuple[str, str]]:
        return [(one.wire_id, one.message.payload["text"]) for one in self._server.wire if one.session_phone == phone]

    async def wire_types(self, phone: str) -> list[tuple[str, str]]:
        return [(one.wire_id, one.message.type) for one in self._server.wire if one.session_phone == phone]

    async def signals(self, phone: str) -> list[tuple[str, str]]:
        kinds = {"composing": "typing", "reject": "call_rejected"}
        return [(chat, kinds.get(second, "read")) for chat, second, *_ in self._server.signals]

    async def inbound_file(self, phone: str, *, sender: str, data: bytes) -> str:
        path = f"/v/{len(self._server.files)}"
        self._server.files[path] = data
        key = base64.b64encode(b"k").decode()
        source = {"kind": "document", "direct_path": path, "media_key": key, "sha256": key, "enc_sha256": key}
        return await asyncio.to_thread(
            self._server.inbound_message,
            phone,
            sender=sender,
            type_="document",
            content={"source": {**source, "size": len(data)}},
        )


class FakeServerWorld:
    """The real library, and a server on loopback."""

    def __init__(self, http: httpx.AsyncClient, make_client: Any, store: Store) -> None:
        self._http = http
        self._make_client = make_client
        self.store = store

    def make_client(self, spec: ClientSpec) -> WhatsAppClient:
        made: WhatsAppClient = self._make_client(spec)
        return made

    async def scan(self, code: str, phone: str) -> None:
        await self._post("/scan", qr=code, phone=phone)

    async def inbound(self, phone: str, *, sender: str, text: str) -> str:
        answer = await self._post("/inbound", session_phone=phone, text=text, **{"from": sender})
        return str(answer["wire_id"])

    async def receipt(self, phone: str, wire_id: WireId, status: str) -> None:
        await self._post("/receipts", session_phone=phone, wire_id=wire_id, type=status)

    async def log_out(self, phone: str) -> None:
        await self._post("/faults", kind="logged_out", session_phone=phone)

    async def replace(self, phone: str) -> None:
        await self._post("/faults", kind="replaced", session_phone=phone)

    async def call(self, phone: str, *, caller: str, call_id: str) -> None:
        await self._post("/calls", session_phone=phone, id=call_id, **{"from": caller})

    async def wire(self, phone: str) -> list[tuple[str, str]]:
        answer = await self._http.get("/wire", params={"session_phone": phone})
        return [(one["wire_id"], one["text"]) for one in answer.json()["data"]]

    async def wire_types(self, phone: str) -> list[tuple[str, str]]:
        answer = await self._http.get("/wire", params={"session_phone": phone})
        return [(one["wire_id"], one["type"]) for one in answer.json()["data"]]

    async def signals(self, phone: str) -> list[tuple[str, str]]:
        answer = await self._http.get("/signals", params={"session_phone": phone})
        return [(one["chat"], one["kind"]) for one in answer.json()["data"]]

    async def inbound_file(self, phone: str, *, sender: str, data: bytes) -> str:
        payload = {"base64": base64.b64encode(data).decode()}
        answer = await self._post("/inbound", session_phone=phone, type="document", payload=payload, **{"from": sender})
        return str(answer["wire_id"])

    async def _post(self, path: str, **body: object) -> dict[str, Any]:
        answer = await self._http.post(path, json=body)
        assert answer.is_success, (path, answer.text)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


@asynccontextmanager
async def fake_server_world(database_url: str, data_dir: Path) -> AsyncIterator[FakeServerWorld]:
    """Load the library into this process, pointed at a fake server of its own. Once per process."""
    with _fake_server(data_dir) as url:
        loaded = library.load(sessions=20, fake_url=url, connector=install)
        # Not at the top: it loads the library.
        factory = import_module("session_host.whatsapp.neonize_client").factory

        pool = await open_pool(database_url, max_size=4)
        store = await DeviceStore.open(pool, database_url, name="contract")
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
            await http.post("/contacts", json={"phone": "5511999990000", "on_whatsapp": False})
            await http.post("/contacts", json={"phone": "5511999990001", "auto_receipts": []})
            yield FakeServerWorld(http, factory(loaded, store, has_room=lambda: True), store)
        await pool.close()


class _fake_server:  # noqa: N801 - used like a function
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.fake_whatsapp", "--data-dir", str(self._data_dir)],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        return str(json.loads(self._process.stdout.readline())["control_url"])

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()
