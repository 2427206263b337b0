"""A client of each gateway, from the first call to the last event: of ZapHub it knows a base URL and a key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import settings as shared_settings
from shared.webhooks.formats.wamid import wamid
from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.compat.conftest import CLOUD, EVOLUTION, client_of
from tests.integration.compat.stage import Stage, bodies, stage
from tests.integration.webhooks.servers import Server, serving

PHONE, CONTACT = "5511988880001", "5511977770002"
OWN, CHAT, LID = f"{PHONE}@s.whatsapp.net", f"{CONTACT}@s.whatsapp.net", f"9{CONTACT}@lid"


@pytest.fixture
async def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    # Failpoints read the environment.
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "secret-key-of-the-tests")
    shared_settings.load.cache_clear()
    async with stage(database_url, tmp_path) as opened:
        yield opened
    shared_settings.load.cache_clear()


def chats_saw(world: Stage) -> list[tuple[str, ...]]:
    """What chats saw beside messages; that the device says of itself at its login whether it is there, all see."""
    return [one for one in world.server.signals if one[0] != "presence"]


async def linked(world: Stage, evolution: httpx.AsyncClient, instance: str) -> None:
    """Scan the QR code that `connect` shows, and wait for `open`."""

    async def shown() -> str | None:
        code: str | None = (await evolution.get(f"/instance/connect/{instance}")).json().get("code")
        return code

    async def is_open() -> bool:
        answer = await evolution.get(f"/instance/connectionState/{instance}")
        return bool(answer.json()["instance"]["state"] == "open")

    world.server.scan(await world.until(shown), PHONE)
    await world.until(is_open)


async def test_an_evolution_client_creates_scans_sends_and_hears(world: Stage) -> None:
    async with serving() as receiver, client_of(world.api, EVOLUTION, {"apikey": ADMIN_KEY}) as evolution:
        created = await evolution.post(
            "/instance/create",
            json={
                "instanceName": "loja1",
                "integration": "WHATSAPP-BAILEYS",
                "webhook": {"url": receiver.url, "byEvents": False, "base64": False, "events": []},
            },
        )
        assert created.status_code == 201, created.text
        await linked(world, evolution, "loja1")

        sent = await evolution.post("/message/sendText/loja1", json={"number": CONTACT, "text": "olá"})
        key = sent.json()["key"]
        wire = await world.until(lambda: _wired(world))
        for status in ("delivered", "read"):
            await asyncio.to_thread(world.server.receipt, PHONE, wire, status)
        reply = await asyncio.to_thread(world.server.inbound, PHONE, sender=CONTACT, text="oi, tudo bem?")
        expected = {
            ("connection.update", "open"),
            ("send.message", "PENDING"),
            *(("messages.update", status) for status in ("SERVER_ACK", "DELIVERY_ACK", "READ")),
            ("messages.upsert", "DELIVERY_ACK"),
        }
        events = await world.until(lambda: _heard(receiver, expected))
        said = await evolution.post(
            "/chat/markMessageAsRead/loja1",
            json={"readMessages": [{"remoteJid": CHAT, "fromMe": False, "id": reply}]},
        )
        typed = await evolution.post(
            "/chat/sendPresence/loja1", json={"number": CONTACT, "presence": "composing", "delay": 1200}
        )
        unread = await evolution.post(
            "/chat/markMessageAsRead/loja1", json={"readMessages": [{"remoteJid": CHAT, "fromMe": False, "id": "no"}]}
        )
        known = await evolution.post("/chat/whatsappNumbers/loja1", json={"numbers": [CONTACT, "5511999990000"]})
        deleted = await evolution.delete("/instance/delete/loja1")
        await world.work()

    assert (said.status_code, said.json()) == (201, {"message": "Read messages", "read": "success"})
    assert (unread.status_code, unread.json()["response"]["message"][0].partition(":")[0]) == (400, "readMessages.0")
    assert (typed.status_code, typed.json()) == (201, {"presence": "composing"})
    assert chats_saw(world) == [(CHAT, CHAT, reply), (CHAT, "composing")]
    assert known.json() == [
        {"jid": CHAT, "exists": True, "number": CONTACT, "lid": LID},
        {"jid": "5511999990000@s.whatsapp.net", "exists": False, "number": "5511999990000"},
    ]
    assert key["remoteJid"] == CHAT
    updates = [one["data"] for one in events if one["event"] == "messages.update"]
    assert {one["keyId"] for one in updates} == {key["id"]}
    [accepted] = [one for one in events if one["event"] == "send.message"]
    assert accepted["data"]["key"] == key
    assert accepted["data"]["message"] == {"conversation": "olá"}
    [came] = [one for one in events if one["event"] == "messages.upsert"]
    assert came["data"]["key"] == {"remoteJid": CHAT, "remoteJidAlt": LID, "fromMe": False, "id": reply}
    assert came["data"]["message"] == {"conversation": "oi, tudo bem?"}
    assert came["sender"] == OWN
    codes = [one["data"]["qrcode"] for one in events if one["event"] == "qrcode.updated"]
    assert codes
    assert all(one["code"] and one["base64"].startswith("data:image/png;base64,") for one in codes)
    [opened] = [one["data"] for one in events if one["event"] == "connection.update" and _state(one) == "open"]
    assert opened["wuid"] == OWN
    assert {one["instance"] for one in events} == {"loja1"}
    assert deleted.json()["status"] == "SUCCESS"


async def test_an_evolution_client_gets_a_code_to_type_and_hears_of_a_number_that_is_not_on_whatsapp(
    world: Stage,
) -> None:
    async with serving() as receiver, client_of(world.api, EVOLUTION, {"apikey": ADMIN_KEY}) as evolution:
        settings = {"enabled": True, "url": receiver.url, "events": ["MESSAGES_UPDATE"]}
        await evolution.post("/instance/create", json={"instanceName": "loja1"})

        async def to_type() -> str | None:
            shown = await evolution.get("/instance/connect/loja1", params={"number": PHONE})
            code: str | None = shown.json()["pairingCode"]
            return code

        assert await world.until(to_type) == f"{PHONE[-4:]}WXYZ"
        await linked(world, evolution, "loja1")
        assert (await evolution.post("/webhook/set/loja1", json={"webhook": settings})).status_code == 201

        sent = await evolution.post("/message/sendText/loja1", json={"number": "5511999990000", "text": "olá"})
        [failed] = await world.until(lambda: _heard(receiver, {("messages.update", "ERROR")}))

    assert failed["data"]["keyId"] == sent.json()["key"]["id"]


async def test_a_cloud_api_client_sends_and_hears(world: Stage) -> None:
    number_id = "106540352242922"
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        serving() as receiver,
        client_of(world.api, CLOUD, headers) as cloud,
        client_of(world.api, EVOLUTION, {"apikey": ADMIN_KEY}) as evolution,
    ):
        made = await world.api.post("/connections", json={"label": "Loja", "external_id": number_id})
        hook = {"url": receiver.url, "events": ["message.*"], "payload_format": "cloud_api"}
        assert (await world.api.post("/webhooks", json=hook)).json()["payload_format"] == "cloud_api"
        await linked(world, evolution, number_id)

        text = {"messaging_product": "whatsapp", "to": f"+{CONTACT}", "type": "text", "text": {"body": "hi"}}
        sent = await cloud.post(f"/{number_id}/messages", json={**text, "biz_opaque_callback_data": "order 7"})
        assert sent.status_code == 200, sent.text
        wire = await world.until(lambda: _wired(world))
        for status in ("delivered", "read"):
            await asyncio.to_thread(world.server.receipt, PHONE, wire, status)
        came_by = await asyncio.to_thread(world.server.inbound, PHONE, sender=CONTACT, text="Does it come in blue?")
        values = await world.until(lambda: _told(receiver, {"sent", "delivered", "read", "Does it come in blue?"}))

        [came] = [one["messages"][0] for one in values if "messages" in one]
        reply = {**text, "context": {"message_id": came["id"]}}
        answered = await cloud.post(f"/{number_id}/messages", json=reply)
        read: dict[str, Any] = {"messaging_product": "whatsapp", "status": "read", "message_id": came["id"]}
        read["typing_indicator"] = {"type": "text"}
        seen = await cloud.post(f"/{number_id}/messages", json=read)
        own = await cloud.post(f"/{number_id}/messages", json={**read, "message_id": sent.json()["messages"][0]["id"]})
        await world.until(lambda: _wired(world, 2))

    statuses = [one["statuses"][0] for one in values if "statuses" in one]
    assert {one["id"] for one in statuses} == {sent.json()["messages"][0]["id"]}
    assert {one["recipient_id"] for one in statuses} == {CONTACT}
    assert {one["biz_opaque_callback_data"] for one in statuses} == {"order 7"}
    metadata = {"display_phone_number": PHONE, "phone_number_id": number_id}
    assert all(one["metadata"] == metadata for one in values)
    assert (came["from"], came["type"]) == (CONTACT, "text")
    assert answered.status_code == 200
    quoting = world.server.wire[1].message.reply_to
    assert quoting is not None
    assert quoting.text == "Does it come in blue?"
    assert (seen.status_code, seen.json()) == (200, {"success": True})
    assert own.json()["error"]["error_data"]["details"].startswith("message_id: ")
    assert chats_saw(world) == [(CHAT, CHAT, came_by), (CHAT, "composing")]
    assert made.status_code == 202


async def test_a_contact_s_status_is_read_as_a_status_and_nobody_types_there(world: Stage) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        client_of(world.api, CLOUD, headers) as cloud,
        client_of(world.api, EVOLUTION, {"apikey": ADMIN_KEY}) as evolution,
    ):
        await world.api.post("/connections", json={"label": "Loja", "external_id": "loja1"})
        await linked(world, evolution, "loja1")
        wire_id = await asyncio.to_thread(world.server.inbound, PHONE, sender=CONTACT, text="at the beach")
        await world.until(lambda: _posted_as_status(world, wire_id))
        read = {"messaging_product": "whatsapp", "status": "read", "message_id": wamid(wire_id)}

        typed = await cloud.post("/loja1/messages", json={**read, "typing_indicator": {"type": "text"}})
        seen = await cloud.post("/loja1/messages", json=read)

    assert (typed.status_code, typed.json()["error"]["code"]) == (400, 131009)
    assert typed.json()["error"]["error_data"]["details"].startswith("typing_indicator: ")
    assert (seen.status_code, seen.json()) == (200, {"success": True})
    assert chats_saw(world) == [("status@broadcast", CHAT, wire_id)]


async def test_the_doors_answer_with_the_number_as_whatsapp_spells_it_once_that_is_known(world: Stage) -> None:
    written, registered = "5511987654321", "551187654321"
    world.server.registered |= dict.fromkeys((written, registered), registered)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        client_of(world.api, CLOUD, headers) as cloud,
        client_of(world.api, EVOLUTION, {"apikey": ADMIN_KEY}) as evolution,
    ):
        await world.api.post("/connections", json={"label": "Loja", "external_id": "loja1"})
        await linked(world, evolution, "loja1")
        text = {"messaging_product": "whatsapp", "to": written, "type": "text", "text": {"body": "hi"}}

        before = await cloud.post("/loja1/messages", json=text)
        [known] = (await evolution.post("/chat/whatsappNumbers/loja1", json={"numbers": [written]})).json()
        after = await cloud.post("/loja1/messages", json=text)
        sent = await evolution.post("/message/sendText/loja1", json={"number": written, "text": "olá"})

    assert (known["jid"], known["number"]) == (f"{registered}@s.whatsapp.net", written)
    assert [one.json()["contacts"][0]["wa_id"] for one in (before, after)] == [written, registered]
    assert sent.json()["key"]["remoteJid"] == f"{registered}@s.whatsapp.net"


async def _wired(world: Stage, count: int = 1) -> Any:
    """The wire id of the last message that WhatsApp has, once it has so many."""
    return world.server.wire[-1].wire_id if len(world.server.wire) >= count else None


async def _posted_as_status(world: Stage, wire_id: str) -> Any:
    """Once the message is stored: it was written for all of its writer's contacts."""
    async with world.queues.pool.acquire() as database:
        return await database.fetchval(
            "UPDATE messages SET jid = 'status@broadcast', phone = NULL WHERE wa_message_id = $1 RETURNING id", wire_id
        )


async def _heard(receiver: Server, expected: set[tuple[str, str]]) -> Any:
    """All events, once the expected ones are among them."""
    found = bodies(receiver)
    seen = {(one["event"], _state(one)) for one in found}
    return found if expected <= seen else None


def _state(event: dict[str, Any]) -> str:
    return str(event["data"].get("state") or event["data"].get("status"))


async def _told(receiver: Server, expected: set[str]) -> Any:
    values = [one["entry"][0]["changes"][0]["value"] for one in bodies(receiver)]
    seen = {one["statuses"][0]["status"] if "statuses" in one else one["messages"][0]["text"]["body"] for one in values}
    return values if expected <= seen else None
