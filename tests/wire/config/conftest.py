"""One running ZapHub whose phone was linked through a proxy that asks for a password."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.conftest import Stack, clients_of, supervised, until
from tests.wire.config.proxy_server import Proxy, proxy

PHONE, CONTACT = "5511955550020", "5511977770020"


@dataclass(frozen=True, slots=True)
class Shop:
    """The connection under test, seen from the API and from the wire."""

    stack: Stack
    proxy: Proxy
    id: str
    folder: Path

    async def configure(self, **config: Any) -> dict[str, Any]:
        """Set the whole config; its proxy stays as it is unless it is named."""
        kept = {name: value for name, value in (await self.shown())["config"].items() if name == "proxy"}
        answer = await self.stack.api.patch(self.path, json={"config": {**kept, **config}})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    @property
    def path(self) -> str:
        return f"/connections/{self.id}"

    async def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.stack.api.get(self.path)).json()
        return found

    async def until_status(self, status: str) -> None:
        async def look() -> bool:
            return bool((await self.shown())["status"] == status)

        await until(look, within_s=60, what=status)

    async def signals(self, kind: str, *, after: int = 0) -> list[dict[str, Any]]:
        answer = await self.stack.phones.get("/signals", params={"session_phone": PHONE, "after": after})
        return [one for one in answer.json()["data"] if one["kind"] == kind]

    async def until_signal(self, kind: str, *, after: int = 0, **said: Any) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            found = await self.signals(kind, after=after)
            return next((one for one in found if said.items() <= one.items()), None)

        return await until(look, within_s=60, what=f"{kind} {said}")

    async def writes(self, text: str, *, chat: str | None = None) -> str:
        body = {"session_phone": PHONE, "from": CONTACT, "text": text, **({"group": chat} if chat else {})}
        answer = await self.stack.phones.post("/inbound", json=body)
        assert answer.is_success, answer.text
        return str(answer.json()["wire_id"])

    async def writes_a_file(self, content: bytes) -> str:
        payload = {"base64": base64.b64encode(content).decode(), "filename": "a.txt", "mimetype": "text/plain"}
        body = {"session_phone": PHONE, "from": CONTACT, "type": "document", "payload": payload}
        answer = await self.stack.phones.post("/inbound", json=body)
        assert answer.is_success, answer.text
        return str(answer.json()["wire_id"])

    async def fetched(self, wire_id: str) -> bytes:
        """The file of a message that came in, once it is kept."""
        media_id = (await self.received(wire_id))["payload"]["media_id"]

        async def look() -> bytes | None:
            answer = await self.stack.api.get(f"/media/{media_id}")
            return answer.content if answer.status_code == 200 else None

        return await until(look, within_s=60, what=f"the file of {wire_id} is kept")

    async def received(self, wire_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            return next((one for one in await self.stack.messages(self.id) if one["wa_message_id"] == wire_id), None)

        return await until(look, within_s=60, what=f"{wire_id} is stored")

    async def send(self, type_: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The message once WhatsApp has it."""
        body = {"to": CONTACT, "type": type_, "payload": payload}
        answer = await self.stack.api.post(f"{self.path}/send", json=body)
        assert answer.status_code == 202, answer.text
        message_id = answer.json()["message"]["id"]

        async def look() -> dict[str, Any] | None:
            found: dict[str, Any] = (await self.stack.api.get(f"/messages/{message_id}")).json()
            return found if found["status"] in {"sent", "delivered", "read"} else None

        return await until(look, within_s=60, what=f"{message_id} left")

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.stack.ready()["database_url"])
        await connection.execute(statement)
        await connection.close()


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("zaphub")
    # The stack ends first, and with it what goes through the proxy.
    async with proxy() as way:
        with supervised(folder) as ready:
            async with clients_of(ready) as stack:
                way.leads_to = (await stack.phones.get("/connector")).json()["proxy_url"]
                yield await _paired(stack, way, folder)


async def _paired(stack: Stack, way: Proxy, folder: Path) -> Shop:
    made = await stack.api.post("/connections", json={"label": "proxied", "config": {"proxy": way.url("http")}})
    assert made.status_code == 202, made.text
    shop = Shop(stack, way, made.json()["connection"]["id"], folder)
    code = await stack.api.get(f"{shop.path}/qr", params={"wait": 25}, headers={"Accept": "text/plain"})
    assert code.status_code == 200, code.text
    await stack.phones.post("/scan", json={"qr": code.text, "phone": PHONE})
    await shop.until_status("connected")
    return shop
