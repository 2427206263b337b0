"""Postgres hangs for two minutes while messages come in and clients go on sending: nothing is lost or doubled."""

import asyncio
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.e2e.conftest import Sink, Stack, until
from tests.processes import stopped

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

PHONE = "5511955550002"
SHOPS = [f"55119888800{number:02d}" for number in range(3)]
OUTAGE_S = 120.0
EVERY_S = 4.0
FIRST = 20  # so many each client sends without a pause: the outage begins while they are on their way


@dataclass
class Traffic:
    """What goes on during the outage: contacts write, and three clients send, each to a chat of its own."""

    stack: Stack
    connection: str
    received: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def contacts_write(self) -> None:
        for number in count():
            inbound = {"session_phone": PHONE, "from": f"551177777{number % 7:04d}", "text": f"in {number}"}
            answer = await self.stack.phones.post("/inbound", json=inbound)
            assert answer.status_code == 200, answer.text
            self.received.append(answer.json()["wire_id"])
            if await self._is_last():
                return

    async def a_client_sends(self, chat: str) -> None:
        while True:
            await self._send_until_accepted(chat, text=str(self.sent[chat]))
            self.sent[chat] += 1
            if self.sent[chat] >= FIRST and await self._is_last():
                return

    async def _send_until_accepted(self, chat: str, *, text: str) -> None:
        """Ask with one message id until it is accepted, as a careful client does."""
        body = {"to": chat, "type": "text", "payload": {"text": text}, "message_id": f"{chat}-{text}"}
        while True:
            answer = await self.stack.api.post(f"/connections/{self.connection}/send", json=body, timeout=30)
            self.answers[answer.status_code] += 1
            if answer.status_code == httpx.codes.ACCEPTED:
                return
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

    async def _is_last(self) -> bool:
        if self.is_over.is_set():
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self.is_over.wait()
        return False


async def test_two_minutes_without_postgres_lose_and_double_nothing(stack: Stack, sink: Sink) -> None:
    made = await stack.pair(PHONE, webhook_url=sink.url)
    before = stack.ready()["pids"]
    traffic = Traffic(stack, made["connection"]["id"])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.contacts_write())
        for chat in SHOPS:
            tasks.create_task(traffic.a_client_sends(chat))

        async def under_way() -> bool:
            return len(await stack.wire(PHONE)) >= FIRST

        await until(under_way, within_s=30, what=f"{FIRST} messages on the wire")
        with stopped(before["postgres"]):
            await asyncio.sleep(OUTAGE_S)  # the outage itself, not a wait for something
        traffic.is_over.set()

    assert traffic.answers[503] > 0, "the outage was not felt"
    assert set(traffic.answers) <= {202, 503}
    await _is_sent_once_in_order(stack, traffic)
    await _is_received_once(sink, traffic, secret=made["webhook_secret"])
    assert stack.ready()["pids"] == before, "a part died of it"


async def _is_sent_once_in_order(stack: Stack, traffic: Traffic) -> None:
    async def settled() -> bool:
        outbound = [one for one in await stack.messages(traffic.connection) if one["direction"] == "outbound"]
        return len(outbound) == traffic.sent.total() and all(one["status"] == "delivered" for one in outbound)

    await until(settled, within_s=120, what="every accepted message delivered")
    wire = await stack.wire(PHONE)
    for chat in SHOPS:
        assert [row["text"] for row in wire if row["to"] == chat] == [str(n) for n in range(traffic.sent[chat])]


async def _is_received_once(sink: Sink, traffic: Traffic, *, secret: str) -> None:
    def ids() -> list[str]:
        return [one["payload"]["wa_message_id"] for one in _received(sink)]

    async def all_there() -> bool:
        return len(ids()) >= len(traffic.received)

    await until(all_there, within_s=60, what=f"{len(traffic.received)} inbound messages at the sink")
    assert sorted(ids()) == sorted(traffic.received)
    for attempts in sink.got.values():
        for headers, body in attempts:
            Webhook(secret).verify(body.decode(), headers)


def _received(sink: Sink) -> list[dict[str, Any]]:
    bodies = [json.loads(attempts[0][1]) for attempts in sink.got.values()]
    return [body for body in bodies if body["event"] == "message.received"]
