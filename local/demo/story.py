"""What the demo does, step by step, as a customer would: through the API, a phone that scans, and people who write."""

import asyncio
import base64
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from local.demo.errors import DemoStopped
from local.demo.running import Running
from local.demo.screen import Screen
from local.demo.sink import Sink
from local.demo.tally import Evidence, Letter, Row, Tally, tally

CHATS = 8
MESSAGES = 40
INBOUND = 10
_KILL_AT = 10  # messages on the wire
_WORKER = "worker-1"
_PAIR_TIMEOUT_S = 60
_SETTLE_TIMEOUT_S = 120
# A Lambda cannot renew its leases: what it held comes back when they lapse, and the sweeper looks once a minute.
_LAMBDA_SETTLE_TIMEOUT_S = 420
_LOOK_EVERY_S = 0.25
_WATCH_EVERY_S = 0.02
# What comes late would be a message sent or stored twice.
_CALM_S = 2
_RECEIPT_DELAY_MS = 100
_QR_WAIT_S = 25


def new_secret() -> str:
    """Return a secret for the webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(slots=True)
class Story:
    """One run; `api` and `fake` are clients of the two servers."""

    api: httpx.AsyncClient
    fake: httpx.AsyncClient
    zaphub: Running
    sink: Sink
    screen: Screen
    is_lambda: bool = False
    connection_id: str = ""
    phone: str = ""
    people: Sequence[str] = ()

    async def tell(self) -> Tally:
        """Do everything and return how it ended, settled or not. Raises DemoStopped when a step fails."""
        # New numbers in each run, as a data folder that is kept remembers those of the last.
        run = secrets.randbelow(10**6)
        phone = f"55119{run:06}00"
        people = [f"55219{run:06}{number:02}" for number in range(CHATS)]
        self.phone, self.people = phone, people
        await self._pair(phone)
        for number, person in enumerate(people):
            await self._ask(
                self.fake,
                "POST",
                "/contacts",
                json={
                    "phone": person,
                    "name": f"Contact {number + 1}",
                    "auto_receipts": ["delivered", "read"],
                    "receipt_delay_ms": _RECEIPT_DELAY_MS,
                },
            )
        letters = [
            Letter(
                people[number % CHATS], f"message {number // CHATS + 1} of chat {number % CHATS + 1}", f"demo-{number}"
            )
            for number in range(MESSAGES)
        ]
        inbound = [Letter(people[number % CHATS], f"answer {number + 1}") for number in range(INBOUND)]
        with self.screen.progress(accepted=MESSAGES, received=INBOUND):
            accepted = await self._send(letters)
            await self._write(phone, inbound[: INBOUND // 2])
            killed = await self._kill_the_worker(phone)
            await self._write(phone, inbound[INBOUND // 2 :])

            async def look() -> Tally:
                outbound_rows, inbound_rows = await self._messages("outbound"), await self._messages("inbound")
                wire = await self._wire(phone)
                found = tally(Evidence(letters, accepted, inbound, outbound_rows, inbound_rows, wire, self.sink))
                self.screen.show(found)
                return found

            return await self._settled(look, killed=killed)

    async def _pair(self, phone: str) -> None:
        began = time.monotonic()
        body = {"label": "Demo", "webhook_url": self.sink.url, "webhook_secret": self.sink.secret}
        created = await self._ask(self.api, "POST", "/connections", json=body)
        self.connection_id = created["connection"]["id"]
        self.screen.say("made a connection, and waiting for its QR code")
        code = await self._qr()
        self.screen.qr(code)
        await self._ask(self.fake, "POST", "/scan", json={"qr": code, "phone": phone})
        self.screen.say("a phone of the fake WhatsApp server scanned it")
        while (status := (await self._connection())["status"]) != "connected":
            if time.monotonic() - began > _PAIR_TIMEOUT_S:
                raise DemoStopped(f"The connection is {status}, not connected, {_PAIR_TIMEOUT_S} s after it was made.")
            await asyncio.sleep(_LOOK_EVERY_S)
        self.screen.say(f"connected, {time.monotonic() - began:.1f} s after the connection was made", good=True)

    async def _qr(self) -> str:
        for _ in range(_PAIR_TIMEOUT_S // _QR_WAIT_S + 1):
            answer = await self.api.get(f"/connections/{self.connection_id}/qr", params={"wait": _QR_WAIT_S})
            if answer.is_success:
                return str(answer.json()["code"])
            if answer.json().get("code") != "QR_NOT_READY":
                raise DemoStopped(_refusal(answer))
        status = (await self._connection())["status"]
        raise DemoStopped(f"There was no QR code; the connection is {status}.")

    async def _send(self, letters: Sequence[Letter]) -> frozenset[str]:
        messages = [
            {"to": one.phone, "type": "text", "payload": {"text": one.text}, "message_id": one.message_id}
            for one in letters
        ]
        answer = await self._ask(
            self.api, "POST", f"/connections/{self.connection_id}/send/batch", json={"messages": messages}
        )
        results = answer["results"]
        refused = [result["error"] for result in results if "message" not in result]
        if refused:
            self.screen.say(f"refused: {refused[0]}", good=False)
        accepted = frozenset(result["message"]["message_id"] for result in results if "message" in result)
        self.screen.say(f"{len(accepted)} messages over {CHATS} chats accepted in one call")
        return accepted

    async def _write(self, phone: str, letters: Sequence[Letter]) -> None:
        for one in letters:
            body = {"session_phone": phone, "from": one.phone, "text": one.text}
            await self._ask(self.fake, "POST", "/inbound", json=body)

    async def _kill_the_worker(self, phone: str) -> "_Killed":
        began = time.monotonic()
        while (on_wire := len(await self._wire(phone))) < _KILL_AT:
            if time.monotonic() - began > _SETTLE_TIMEOUT_S:
                raise DemoStopped(
                    f"Only {on_wire} of {MESSAGES} messages were on the wire after {_SETTLE_TIMEOUT_S} s."
                )
            await asyncio.sleep(_WATCH_EVERY_S)
        pid = self.zaphub.pid(_WORKER)
        if pid is None:
            raise DemoStopped("The worker was not running when it was to be killed.")
        os.kill(pid, signal.SIGKILL)
        self.screen.say(f"{_WORKER} (process {pid}) killed with {on_wire} of {MESSAGES} on the wire", good=False)
        if self.is_lambda:
            self.screen.say("every Lambda container died with it; what they held comes back when its leases lapse")
        return _Killed(pid, time.monotonic())

    async def _settled(self, look: Callable[[], Any], *, killed: "_Killed") -> Tally:
        began = time.monotonic()
        is_back = False
        while True:
            if not is_back and (pid := self.zaphub.pid(_WORKER)) not in {None, killed.pid}:
                is_back = True
                seconds = time.monotonic() - killed.at
                self.screen.say(f"{_WORKER} is back after {seconds:.1f} s (process {pid})", good=True)
            found: Tally = await look()
            if is_back and found.holds:
                await asyncio.sleep(_CALM_S)
                last: Tally = await look()
                return last
            if time.monotonic() - began > (_LAMBDA_SETTLE_TIMEOUT_S if self.is_lambda else _SETTLE_TIMEOUT_S):
                return found
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _connection(self) -> Row:
        return await self._ask(self.api, "GET", f"/connections/{self.connection_id}")

    async def _messages(self, direction: str) -> list[Row]:
        path = f"/connections/{self.connection_id}/messages"
        answer = await self._ask(self.api, "GET", path, params={"direction": direction, "limit": 200})
        rows: list[Row] = answer["data"]
        return rows

    async def _wire(self, phone: str) -> list[Row]:
        rows: list[Row] = (await self._ask(self.fake, "GET", "/wire", params={"session_phone": phone}))["data"]
        return rows

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        *,
        json: object = None,
        params: dict[str, str | int] | None = None,
    ) -> Row:
        answer = await client.request(method, path, json=json, params=params)
        if not answer.is_success:
            raise DemoStopped(_refusal(answer))
        body: Row = answer.json()
        return body


@dataclass(frozen=True, slots=True)
class _Killed:
    pid: int
    at: float


def _refusal(answer: httpx.Response) -> str:
    request = answer.request
    return f"{request.method} {request.url.path} was answered with {answer.status_code}: {answer.text[:1000]}"
