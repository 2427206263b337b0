"""Faults on demand, as the library sees them."""

import asyncio

import pytest

from tests.wire.fake_whatsapp.conftest import PHONE, Wire

pytestmark = [pytest.mark.wire, pytest.mark.anyio]


async def test_an_ack_error_fails_one_send_and_leaves_no_trace(wire: Wire, contact: str) -> None:
    await wire.server.post("/faults", kind="ack_error", code=463, contact=contact)

    with pytest.raises(RuntimeError, match="server returned error 463"):
        await wire.neonize.do("send", name="shop", to=contact, text="refused")
    await wire.neonize.do("send", name="shop", to=contact, text="accepted")

    assert [row["text"] for row in await wire.server.wire(contact=contact)] == ["accepted"]


async def test_a_late_ack_holds_the_send_back(wire: Wire, contact: str) -> None:
    await wire.server.post("/contacts", phone=contact, auto_receipts=["read"])
    await wire.server.post("/faults", kind="ack_delay", ms=2000, session_phone=PHONE)
    start = len(wire.neonize.events)
    sending = asyncio.ensure_future(wire.neonize.do("send", name="shop", to=contact, text="late"))

    # An ack that is not late comes before what is written after the message was read.
    read = await wire.neonize.until("receipt", after=start, where=lambda said: said["type"] == "read")
    answer = await wire.inbound(contact, "I have read it")
    await wire.neonize.until("message", after=start, where=lambda said: said["id"] == answer)

    assert not sending.done()
    assert read["ids"] == [await sending]


async def test_a_message_without_an_ack_is_on_the_wire_and_is_sent_again_with_its_id_after_a_cut(
    wire: Wire, contact: str
) -> None:
    await wire.server.post("/contacts", phone=contact, auto_receipts=["read"])
    await wire.server.post("/faults", kind="no_ack", contact=contact)
    start = len(wire.neonize.events)
    sending = asyncio.ensure_future(wire.neonize.do("send", name="shop", to=contact, text="unanswered"))
    # Nobody else reads anything meanwhile, so this receipt is that of the message.
    await wire.neonize.until("receipt", after=start, where=lambda said: said["type"] == "read")
    (first,) = await wire.server.wire(contact=contact)

    await wire.server.post("/faults", kind="drop_connection", session_phone=PHONE)

    assert await sending == first["wire_id"]
    rows = await wire.server.wire(contact=contact)
    assert [(row["text"], row["resend"]) for row in rows] == [("unanswered", False), ("unanswered", True)]
    assert rows[1]["wire_id"] == first["wire_id"]


async def test_what_contacts_write_meanwhile_comes_in_order_after_a_reconnect(wire: Wire, contact: str) -> None:
    start = len(wire.neonize.events)
    await wire.server.post("/faults", kind="refuse_connections", session_phone=PHONE)
    await wire.server.post("/faults", kind="drop_connection", session_phone=PHONE)
    await wire.neonize.until("disconnected", after=start)
    stored = [await wire.inbound(contact, f"stored {n}") for n in range(5)]
    assert not (await wire.server.session(PHONE))["connected"]

    await wire.server.clear_faults()
    await wire.neonize.until("message", after=start, where=lambda said: said["id"] == stored[-1])

    heard = [said["id"] for said in wire.neonize.events[start:] if said["event"] == "message"]
    assert heard == stored


async def test_refusing_all_connections_keeps_everyone_out_until_it_is_deleted(wire: Wire, contact: str) -> None:
    start = len(wire.neonize.events)
    await wire.server.post("/faults", kind="refuse_connections")
    await wire.server.post("/faults", kind="drop_connection")
    await wire.neonize.until("disconnected", after=start)
    connects = (await wire.server.session(PHONE))["connects"]

    await wire.server.clear_faults()
    await wire.neonize.until("connected", after=start)

    assert (await wire.server.session(PHONE))["connects"] == connects + 1
    await wire.neonize.do("send", name="shop", to=contact, text="back")


async def test_a_replaced_session_is_told_so_and_stays_away(wire: Wire) -> None:
    await wire.pair("replaced", "5511900010001")

    await wire.server.post("/faults", kind="replaced", session_phone="5511900010001")

    await wire.neonize.until("replaced", where=lambda said: said["name"] == "replaced")
    again, _ = await wire.server.call("POST", "/faults", kind="replaced", session_phone="5511900010001")
    assert again == 409


async def test_a_banned_session_hears_for_how_long(wire: Wire) -> None:
    await wire.pair("banned", "5511900010002")

    await wire.server.post("/faults", kind="banned", session_phone="5511900010002")

    assert (await wire.neonize.until("banned"))["expire_s"] == 3600


async def test_a_logged_out_session_is_gone_and_can_be_linked_again_with_the_same_contacts(
    wire: Wire, contact: str
) -> None:
    phone = "5511900010003"
    await wire.pair("first life", phone)
    await wire.neonize.do("send", name="first life", to=contact, text="before")
    await wire.inbound(contact, "hello first", phone=phone)
    await wire.neonize.until("message", where=lambda said: said["text"] == "hello first")

    await wire.server.post("/faults", kind="logged_out", session_phone=phone)
    await wire.neonize.until("logged_out", where=lambda said: said["name"] == "first life")
    unlinked, _ = await wire.server.call("POST", "/inbound", session_phone=phone, **{"from": contact}, text="x")
    number = await wire.pair("second life", phone)
    await wire.neonize.do("send", name="second life", to=contact, text="after")
    await wire.inbound(contact, "hello second", phone=phone)

    heard = await wire.neonize.until("message", where=lambda said: said["text"] == "hello second")
    rows = await wire.server.wire(session_phone=phone)
    assert (unlinked, number, heard["name"]) == (404, "2", "second life")
    assert [(row["type"], row["text"]) for row in rows] == [("text", "before"), ("text", "after")]


async def test_a_session_that_was_unlinked_while_it_was_away_hears_of_it_when_it_comes_back(wire: Wire) -> None:
    phone = "5511900010005"
    await wire.pair("away", phone)
    start = len(wire.neonize.events)
    await wire.server.post("/faults", kind="refuse_connections", session_phone=phone)
    await wire.server.post("/faults", kind="drop_connection", session_phone=phone)
    await wire.neonize.until("disconnected", after=start, where=lambda said: said["name"] == "away")

    await wire.server.post("/faults", kind="logged_out", session_phone=phone)
    await wire.server.clear_faults()

    await wire.neonize.until("logged_out", after=start, where=lambda said: said["name"] == "away")


async def test_a_client_that_logs_out_is_linked_no_longer(wire: Wire) -> None:
    await wire.pair("leaving", "5511900010004")

    await wire.neonize.do("logout", name="leaving")

    _, answer = await wire.server.call("GET", "/sessions")
    assert "5511900010004" not in [session["phone"] for session in answer["data"]]
