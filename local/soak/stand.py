"""A running ZapHub with a fake WhatsApp server, its clients, and sessions that phones have linked."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from local.demo import sink
from local.demo.errors import DemoStopped
from local.demo.running import Running, running
from local.demo.sink import Sink
from local.demo.story import new_secret
from shared.db.pool import Pool, open_pool

# Any: rows of JSON, described in docs/api.md.
Row = dict[str, Any]
_REQUEST_S: Final = 60
_QR_WAIT_S: Final = 25
_PAIR_S: Final = 180
_LOOK_S: Final = 0.2
_PAGE: Final = 200
# As many codes are scanned at once as people with phones could.
_AT_ONCE: Final = 8


# Whom each session writes to, and who writes to it.
CHATS: Final = 5


def contact_of(session: int, chat: int) -> str:
    """The number of a contact of the session of that number, from 0 on; no two sessions have one together."""
    return f"55219{session:04}{chat:04}"


def phones(sessions: int) -> list[str]:
    """The numbers of so many sessions."""
    return [f"55119{number:08}" for number in range(sessions)]


@dataclass(frozen=True, slots=True)
class Layout:
    """How many sessions there are, and over how many child processes of the session host they are spread."""

    sessions: int
    children: int

    @property
    def settings(self) -> dict[str, str]:
        """The settings under which every child takes its share and no more."""
        share = -(-self.sessions // self.children)
        return {"ZAPHUB_HOST_CHILDREN": str(self.children), "ZAPHUB_HOST_SESSIONS": str(share)}


@dataclass(frozen=True, slots=True)
class Linked:
    """A connection and the phone that it is linked with; `seconds` from its making to `connected`."""

    connection_id: str
    phone: str
    seconds: float


@dataclass(slots=True)
class Stand:
    """What a run works with. `pool` looks at Postgres from outside."""

    zaphub: Running
    api: httpx.AsyncClient
    fake: httpx.AsyncClient
    sink: Sink
    pool: Pool
    _wire: list[Row] = field(default_factory=list)

    def pids(self) -> dict[str, int]:
        """The pids of all parts now."""
        found: dict[str, int] = self.zaphub.about()["pids"]
        return found

    async def link(self, phones: Sequence[str]) -> list[Linked]:
        """Link each phone with a connection of its own, some at a time."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one(phone: str) -> Linked:
            async with at_once:
                return await self._link(phone)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(phone)) for phone in phones]
        return [task.result() for task in tasks]

    async def _link(self, phone: str) -> Linked:
        began = time.monotonic()
        body = {"label": phone, "webhook_url": self.sink.url, "webhook_secret": self.sink.secret}
        connection_id = (await self.ask(self.api, "POST", "/connections", json=body))["connection"]["id"]
        where = f"/connections/{connection_id}"
        code = await self._qr(where)
        await self.ask(self.fake, "POST", "/scan", json={"qr": code, "phone": phone})
        while (await self.ask(self.api, "GET", where))["status"] != "connected":
            if time.monotonic() - began > _PAIR_S:
                raise DemoStopped(f"A session is not connected {_PAIR_S} s after it was made.")
            await asyncio.sleep(_LOOK_S)
        return Linked(connection_id, phone, time.monotonic() - began)

    async def _qr(self, where: str) -> str:
        began = time.monotonic()
        while True:
            answer = await self.api.get(f"{where}/qr", params={"wait": _QR_WAIT_S})
            if answer.is_success:
                return str(answer.json()["code"])
            if answer.json().get("code") != "QR_NOT_READY" or time.monotonic() - began > _PAIR_S:
                raise DemoStopped(f"There was no QR code: {answer.text[:500]}")

    async def send(self, connection_id: str, *, to: str, text: str) -> None:
        """Send a text until it is accepted, as a careful client does: its text is its message id too."""
        body = {"to": to, "type": "text", "payload": {"text": text}, "message_id": text}
        while True:
            answer = await self.api.post(f"/connections/{connection_id}/send", json=body)
            if answer.status_code == HTTPStatus.ACCEPTED:
                return
            if answer.status_code not in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
                raise DemoStopped(f"A send was answered with {answer.status_code}: {answer.text[:500]}")
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

    async def write(self, phone: str, *, sender: str, text: str) -> str:
        """A contact writes to the phone's account; the message's id on the wire."""
        body = {"session_phone": phone, "from": sender, "text": text}
        return str((await self.ask(self.fake, "POST", "/inbound", json=body))["wire_id"])

    async def messages(self, connection_id: str, direction: str) -> list[Row]:
        """Every message of one direction, newest first."""
        path, found = f"/connections/{connection_id}/messages", list[Row]()
        params: dict[str, str | int] = {"direction": direction, "limit": _PAGE}
        while True:
            page = await self.ask(self.api, "GET", path, params=params)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]

    async def wire(self) -> list[Row]:
        """What all accounts sent, a row for each frame, in order."""
        after = self._wire[-1]["seq"] if self._wire else 0
        self._wire += (await self.ask(self.fake, "GET", "/wire", params={"after": after}))["data"]
        return list(self._wire)

    async def sockets(self) -> dict[str, tuple[bool, int]]:
        """By phone: whether its device is connected at the fake server now, and how often it logged in."""
        rows = (await self.ask(self.fake, "GET", "/sessions"))["data"]
        return {row["phone"]: (row["connected"], row["connects"]) for row in rows}

    async def ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        *,
        json: object = None,
        params: dict[str, str | int] | None = None,
    ) -> Row:
        """The answer's body. Raises DemoStopped when it is an error."""
        answer = await client.request(method, path, json=json, params=params)
        if not answer.is_success:
            raise DemoStopped(f"{method} {path} was answered with {answer.status_code}: {answer.text[:500]}")
        body: Row = answer.json()
        return body


@asynccontextmanager
async def standing(folder: Path, layout: Layout) -> AsyncIterator[Stand]:
    """Start it all in the folder, and stop it at the end. Raises DemoStopped when it does not get ready."""
    async with AsyncExitStack() as held:
        receiver = await held.enter_async_context(sink.listening(new_secret()))
        started = running(
            data_dir=folder / "data",
            ready_file=folder / "ready.json",
            log=folder / "up.log",
            settings=layout.settings,
        )
        zaphub = await held.enter_async_context(started)
        about = zaphub.about()
        api = await held.enter_async_context(_client(about["api_url"], f"Bearer {about['api_key']}"))
        fake = await held.enter_async_context(_client(about["fake_whatsapp_url"], None))
        pool = await open_pool(about["database_url"], max_size=1)
        held.push_async_callback(pool.close)
        yield Stand(zaphub, api, fake, receiver, pool)


def _client(url: str, key: str | None) -> httpx.AsyncClient:
    headers = {} if key is None else {"Authorization": key}
    # Both are on this machine: no proxy of the environment comes between.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=_REQUEST_S, trust_env=False)
