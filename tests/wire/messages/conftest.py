"""One running ZapHub with a linked phone, a customer's webhook receiver, and a chat of its own for each test."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from tests.e2e.conftest import Sink, Stack, clients_of, listening, supervised, until

PHONE = "5511955550010"
_contacts = count(1)


@dataclass(frozen=True, slots=True)
class Chat:
    """What a test does as a customer of ZapHub, and as the contact on the other side."""

    stack: Stack
    sink: Sink
    connection: str
    contact: str
    group: str | None = None

    @property
    def jid(self) -> str:
        return self.group or f"{self.contact}@s.whatsapp.net"

    async def accept(self, type_: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The message as it was accepted."""
        body = {"to": self.jid, "type": type_, "payload": payload, **more}
        answer = await self.stack.api.post(f"/connections/{self.connection}/send", json=body)
        assert answer.status_code == 202, answer.text
        message: dict[str, Any] = answer.json()["message"]
        return message

    async def send(self, type_: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The message once WhatsApp has it."""
        return await self.settled((await self.accept(type_, payload, **more))["id"], "sent", "delivered", "read")

    async def settled(self, message_id: str, *statuses: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            found: dict[str, Any] = (await self.stack.api.get(f"/messages/{message_id}")).json()
            return found if found["status"] in statuses else None

        return await until(look, within_s=60, what=f"{message_id} is {' or '.join(statuses)}")

    async def shown(self, message_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.stack.api.get(f"/messages/{message_id}")).json()
        return found

    async def on_wire(self, message: dict[str, Any]) -> dict[str, Any]:
        """The row of the fake server that has this message, decrypted."""
        rows = [row for row in await self.stack.wire(PHONE) if row["wire_id"] == message["wa_message_id"]]
        assert len(rows) == 1
        return rows[0]

    async def write(self, type_: str, payload: dict[str, Any], *, contact: str | None = None) -> str:
        """The contact writes; the wire id."""
        body = {"session_phone": PHONE, "from": contact or self.contact, "type": type_, "payload": payload}
        if self.group is not None:
            body["group"] = self.group
        answer = await self.stack.phones.post("/inbound", json=body)
        assert answer.is_success, answer.text
        return str(answer.json()["wire_id"])

    async def received(self, wire_id: str) -> dict[str, Any]:
        """What came in, once it is stored."""

        async def look() -> dict[str, Any] | None:
            answer = await self.stack.api.get(f"/connections/{self.connection}/messages", params={"limit": 50})
            return next((one for one in answer.json()["data"] if one["wa_message_id"] == wire_id), None)

        return await until(look, within_s=60, what=f"{wire_id} is stored")

    async def told(self, event: str, message_id: str) -> dict[str, Any]:
        """The payload of the webhook of this event about this message."""

        async def look() -> dict[str, Any] | None:
            for attempts in self.sink.got.values():
                body = json.loads(attempts[0][1])
                if body["event"] == event and body["payload"]["id"] == message_id:
                    found: dict[str, Any] = body["payload"]
                    return found
            return None

        return await until(look, within_s=60, what=f"{event} of {message_id}")


@pytest.fixture(scope="module")
async def linked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, Sink, str]]:
    """A running ZapHub with one connection, whose webhooks go to the sink."""
    folder = tmp_path_factory.mktemp("zaphub")
    with supervised(folder) as ready:
        async with clients_of(ready) as stack, listening() as sink:
            made = await stack.pair(PHONE, webhook_url=sink.url)
            yield stack, sink, made["connection"]["id"]


@pytest.fixture
def chat(linked: tuple[Stack, Sink, str]) -> Chat:
    """With a contact that nobody has written to yet."""
    stack, sink, connection = linked
    return Chat(stack, sink, connection, contact=f"55219777{next(_contacts):05d}")


@pytest.fixture
async def group(linked: tuple[Stack, Sink, str]) -> Chat:
    """A group of two contacts and the linked phone; the first of them writes."""
    stack, sink, connection = linked
    members = [f"55219777{next(_contacts):05d}", f"55219777{next(_contacts):05d}"]
    answer = await stack.phones.post("/groups", json={"subject": "Team", "members": members})
    return Chat(stack, sink, connection, contact=members[0], group=answer.json()["jid"])
