"""The control API refuses what is wrong, says why, and changes nothing."""

from typing import Any

import pytest

from tests.wire.fake_whatsapp.conftest import PHONE, Wire

pytestmark = [pytest.mark.wire, pytest.mark.anyio]

QR = "https://wa.me/settings/linked_devices#ref,noise,{key},{key},6".format(key="A" * 43 + "=")
INBOUND = {"session_phone": PHONE, "from": "5511999990001"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/scan", {}, 422),
        ("/scan", {"qr": "nonsense", "phone": PHONE}, 422),
        ("/scan", {"qr": QR, "phone": "abc"}, 422),
        ("/scan", {"qr": QR, "phone": PHONE}, 404),
        ("/scan", {"qr": QR, "phone": PHONE, "more": 1}, 422),
        ("/link-code", {"code": "4J35-WRRN", "phone": "5511900000009"}, 404),
        ("/link-code", {"code": "", "phone": PHONE}, 422),
        ("/contacts", {"name": "no phone"}, 422),
        ("/contacts", {"phone": PHONE, "auto_receipts": ["seen"]}, 422),
        ("/contacts", {"phone": PHONE, "auto_receipts": ["read", "read"]}, 422),
        ("/contacts", {"phone": PHONE, "receipt_delay_ms": -1}, 422),
        ("/inbound", {"session_phone": "5511900000009", "from": "5511999990001", "text": "x"}, 404),
        ("/inbound", {**INBOUND}, 422),
        ("/inbound", {**INBOUND, "text": "x", "type": "image"}, 422),
        ("/inbound", {**INBOUND, "text": "x", "payload": {"text": "x"}}, 422),
        ("/inbound", {**INBOUND, "type": "fax", "payload": {}}, 422),
        ("/inbound", {**INBOUND, "type": "location", "payload": {"latitude": 91, "longitude": 0}}, 422),
        ("/inbound", {**INBOUND, "type": "image", "payload": {"base64": "*"}}, 422),
        ("/inbound", {**INBOUND, "text": "x", "id": "with space"}, 422),
        ("/inbound", {"session_phone": PHONE, "from": PHONE, "text": "x"}, 422),
        ("/inbound", {"session_phone": PHONE, "from": PHONE, "to": PHONE, "text": "x"}, 422),
        ("/inbound", {**INBOUND, "text": "x", "to": "5511999990002"}, 422),
        ("/receipts", {"session_phone": PHONE, "wire_id": "UNKNOWN", "type": "read"}, 404),
        ("/receipts", {"session_phone": PHONE, "wire_id": "UNKNOWN", "type": "seen"}, 422),
        ("/faults", {"kind": "earthquake"}, 422),
        ("/faults", {"kind": "ack_error"}, 422),
        ("/faults", {"kind": "ack_delay"}, 422),
        ("/faults", {"kind": "no_ack", "count": 0}, 422),
        ("/faults", {"kind": "no_ack", "code": 500}, 422),
        ("/faults", {"kind": "banned", "session_phone": "5511900000009"}, 404),
        ("/nowhere", {}, 404),
    ],
)
async def test_a_wrong_request_is_refused_with_a_reason(
    wire: Wire, path: str, body: dict[str, Any], status: int
) -> None:
    refused, answer = await wire.server.call("POST", path, **body)

    assert (refused, answer["status"]) == (status, status)
    assert answer["detail"]


async def test_a_refused_fault_strikes_nobody(wire: Wire, contact: str) -> None:
    await wire.server.call("POST", "/faults", kind="ack_error")

    await wire.neonize.do("send", name="shop", to=contact, text="fine")

    assert [row["text"] for row in await wire.server.wire(contact=contact)] == ["fine"]


async def test_a_wire_id_is_used_once(wire: Wire, contact: str) -> None:
    body = {"session_phone": PHONE, "from": contact, "text": "x", "id": f"ONCE{contact}"}

    first, _ = await wire.server.call("POST", "/inbound", **body)
    second, _ = await wire.server.call("POST", "/inbound", **body)

    assert (first, second) == (200, 409)


async def test_the_wire_can_be_read_on_from_where_one_stopped(wire: Wire, contact: str) -> None:
    for text in ("one", "two", "three"):
        await wire.neonize.do("send", name="shop", to=contact, text=text)
    first, *_ = await wire.server.wire(contact=contact)

    rest = await wire.server.wire(contact=contact, session_phone=PHONE, after=first["seq"])

    assert [row["text"] for row in rest] == ["two", "three"]
    assert (await wire.server.call("GET", "/wire", after="x"))[0] == 422


async def test_a_contact_keeps_what_a_later_request_leaves_out(wire: Wire, contact: str) -> None:
    await wire.server.post("/contacts", phone=contact, name="Ana", auto_receipts=["read"])

    kept = await wire.server.post("/contacts", phone=f"+{contact}", receipt_delay_ms=5)

    assert kept == {
        "phone": contact,
        "name": "Ana",
        "on_whatsapp": True,
        "auto_receipts": ["read"],
        "receipt_delay_ms": 5,
        "addressing": "pn",
        "spellings": [],
    }


async def test_the_connector_says_all_that_a_host_needs(wire: Wire) -> None:
    _, found = await wire.server.call("GET", "/connector")

    assert set(found) == {"proxy_url", "ca_pem", "root_public_key"}
    assert found["proxy_url"].startswith("http://127.0.0.1:")
    assert len(bytes.fromhex(found["root_public_key"])) == 32
