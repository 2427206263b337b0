"""Who is who, on the real wire: old numbers, aliases, what the phone itself wrote, what was missed or unreadable."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.e2e.conftest import until
from tests.wire.messages.conftest import PHONE, Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]

_numbers = count(70_000_001)


def jid(phone: str) -> str:
    return f"{phone}@s.whatsapp.net"


def lid(phone: str) -> str:
    """The alias by which the fake server knows a number."""
    return f"9{phone}@lid"


def a_number() -> tuple[str, str]:
    """A Brazilian mobile that no other test knows: with its 9, and without."""
    number = next(_numbers)
    return f"55119{number}", f"5511{number}"


async def put(chat: Chat, phone: str, **contact: Any) -> None:
    answer = await chat.stack.phones.post("/contacts", json={"phone": phone, **contact})
    assert answer.is_success, answer.text


async def write(chat: Chat, **inbound: Any) -> str:
    answer = await chat.stack.phones.post("/inbound", json={"session_phone": PHONE, **inbound})
    assert answer.is_success, answer.text
    return str(answer.json()["wire_id"])


async def listed(chat: Chat, name: str) -> list[str]:
    """The texts of the chat that goes by this name, oldest first."""
    answer = await chat.stack.api.get(f"/connections/{chat.connection}/messages", params={"jid": name})
    return [one["payload"]["text"] for one in reversed(answer.json()["data"])]


def webhooks(chat: Chat, wire_id: str) -> list[dict[str, Any]]:
    """Every event about this message that the customer's receiver was told of."""
    bodies = [json.loads(attempts[0][1]) for attempts in chat.sink.got.values()]
    return [one for one in bodies if one["payload"].get("wa_message_id") == wire_id]


async def told(chat: Chat, event: str, wire_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        return next((one["payload"] for one in webhooks(chat, wire_id) if one["event"] == event), None)

    return await until(look, within_s=60, what=f"{event} of {wire_id}")


async def read(chat: Chat, message: dict[str, Any]) -> dict[str, Any]:
    """The receipt that the contact's phone gets when the message is marked as read."""
    answer = await chat.stack.api.post(f"/connections/{chat.connection}/read", json={"message_ids": [message["id"]]})
    assert answer.is_success, answer.text

    async def look() -> dict[str, Any] | None:
        rows = (await chat.stack.phones.get("/signals", params={"session_phone": PHONE})).json()["data"]
        return next((row for row in rows if message["wa_message_id"] in row.get("wire_ids", ())), None)

    return await until(look, within_s=30, what="the receipt")


@pytest.mark.parametrize("corrects", [True, False])
@pytest.mark.parametrize("is_old", [True, False])
async def test_a_brazilian_number_is_one_chat_and_reached_by_either_spelling(
    chat: Chat, *, is_old: bool, corrects: bool
) -> None:
    with_9, without_9 = a_number()
    registered, other = (without_9, with_9) if is_old else (with_9, without_9)
    await put(chat, registered, spellings=[other] if corrects else [])

    accepted = [
        await chat.accept("text", {"text": str(number)}, to=to) for number, to in enumerate((other, registered, other))
    ]
    sent = [await chat.settled(one["id"], "sent", "delivered", "read") for one in accepted]
    reply = await chat.received(await write(chat, **{"from": registered}, text="3"))

    rows = (await chat.stack.phones.get("/wire", params={"session_phone": PHONE, "contact": registered})).json()["data"]
    assert [row["text"] for row in rows] == ["0", "1", "2"]
    assert (await chat.stack.phones.get("/wire", params={"contact": other})).json()["data"] == []
    assert {(one["jid"], one["phone"], one["lid"]) for one in (*sent, reply)} == {
        (jid(registered), registered, lid(registered))
    }
    assert await listed(chat, with_9) == await listed(chat, without_9) == await listed(chat, lid(registered))
    assert await listed(chat, with_9) == ["0", "1", "2", "3"]
    assert (await told(chat, "message.sent", str(sent[0]["wa_message_id"])))["phone"] == registered
    checked = await chat.stack.api.post(
        f"/connections/{chat.connection}/contacts/check", json={"phones": [with_9, without_9]}
    )
    assert [(one["jid"], one["lid"]) for one in checked.json()["data"]] == [(jid(registered), lid(registered))] * 2


async def test_a_number_that_is_in_no_spelling_on_whatsapp_ends_as_a_dead_letter(chat: Chat) -> None:
    with_9, without_9 = a_number()
    await put(chat, with_9, on_whatsapp=False)

    message = await chat.accept("text", {"text": "anybody?"}, to=without_9)

    ended = await chat.settled(message["id"], "dlq")
    assert (ended["error"]["code"], ended["error"]["retryable"]) == ("NUMBER_NOT_ON_WHATSAPP", False)
    assert ended["phone"] == without_9


async def test_a_question_that_whatsapp_does_not_answer_delays_the_message_and_neither_loses_nor_doubles_it(
    chat: Chat,
) -> None:
    with_9, without_9 = a_number()
    await put(chat, without_9)
    await chat.stack.phones.post("/faults", json={"kind": "query_error", "session_phone": PHONE, "code": 503})

    message = await chat.accept("text", {"text": "patience"}, to=with_9)
    sent = await chat.settled(message["id"], "sent", "delivered", "read")

    assert (sent["attempts"], sent["phone"]) == (2, without_9)
    rows = (await chat.stack.phones.get("/wire", params={"contact": without_9})).json()["data"]
    assert [row["text"] for row in rows] == ["patience"]


async def test_what_whatsapp_answered_outlives_the_process_that_asked(chat: Chat) -> None:
    with_9, without_9 = a_number()
    await put(chat, without_9)
    await chat.send("text", {"text": "before"}, to=with_9)

    # Whoever asks again hears an error, and its message needs a second try.
    fault = {"kind": "query_error", "session_phone": PHONE, "code": 503}
    await chat.stack.phones.post("/faults", json=fault)
    await chat.stack.kill("session-host-child-1")
    after = await chat.send("text", {"text": "after"}, to=with_9)
    await chat.stack.phones.delete("/faults")

    assert (after["attempts"], after["phone"]) == (1, without_9)


async def test_who_writes_under_an_alias_is_known_by_the_number_too(chat: Chat) -> None:
    await put(chat, chat.contact, addressing="lid")

    received = await chat.received(await write(chat, **{"from": chat.contact}, text="hello"))
    answered = await chat.send("text", {"text": "and hello"}, to=lid(chat.contact))

    names = {name: received[name] for name in ("jid", "phone", "lid", "from")}
    assert names == {
        "jid": chat.jid,
        "phone": chat.contact,
        "lid": lid(chat.contact),
        "from": chat.jid,
    }
    event = await told(chat, "message.received", received["wa_message_id"])
    assert {name: event[name] for name in names} == names
    assert (answered["jid"], answered["phone"], answered["lid"]) == (chat.jid, chat.contact, lid(chat.contact))
    assert await listed(chat, chat.contact) == ["hello", "and hello"]
    assert (await read(chat, received))["chat"] == lid(chat.contact)


async def test_an_alias_alone_is_a_chat_until_its_number_is_told_and_then_part_of_that(chat: Chat) -> None:
    await put(chat, chat.contact, addressing="lid_only")
    unknown = await chat.received(await write(chat, **{"from": chat.contact}, text="guess who"))
    assert (unknown["jid"], unknown["phone"], unknown["lid"]) == (lid(chat.contact), None, lid(chat.contact))

    await put(chat, chat.contact, addressing="pn")
    await chat.received(await write(chat, **{"from": chat.contact}, text="me"))
    await put(chat, chat.contact, addressing="lid_only")
    known = await chat.received(await write(chat, **{"from": chat.contact}, text="again"))

    assert (known["jid"], known["lid"]) == (chat.jid, lid(chat.contact))
    assert await listed(chat, chat.jid) == await listed(chat, lid(chat.contact)) == ["guess who", "me", "again"]
    assert (await chat.shown(unknown["id"]))["phone"] == chat.contact


async def test_who_writes_in_a_group_is_known_by_both_names(chat: Chat) -> None:
    await put(chat, chat.contact, addressing="lid")
    group = (await chat.stack.phones.post("/groups", json={"members": [chat.contact]})).json()["jid"]

    received = await chat.received(await write(chat, **{"from": chat.contact}, group=group, text="all"))

    event = await told(chat, "message.received", received["wa_message_id"])
    for one in (received, event):
        assert (one["jid"], one["lid"]) == (group, None)
        assert (one["participant"], one["participant_lid"]) == (chat.jid, lid(chat.contact))


@pytest.mark.parametrize("addressing", ["pn", "lid"])
async def test_what_was_typed_on_the_phone_is_stored_and_told_once_as_the_phones(chat: Chat, addressing: str) -> None:
    await put(chat, chat.contact, addressing=addressing)

    wire_id = await write(chat, **{"from": PHONE}, to=chat.contact, text="typed")
    stored = await chat.received(wire_id)

    event = await told(chat, "message.sent", wire_id)
    for one in (stored, event):
        assert (one["from_me"], one["source"], one["direction"]) == (True, "phone", "outbound")
        assert (one["jid"], one["phone"], one["lid"]) == (chat.jid, chat.contact, lid(chat.contact))
        assert (one["from"], one["payload"]["text"]) == (jid(PHONE), "typed")
    assert [one["event"] for one in webhooks(chat, wire_id)] == ["message.sent"]


async def test_what_waited_while_the_device_was_away_is_backfilled_with_its_own_time(chat: Chat) -> None:
    phones = chat.stack.phones
    await phones.post("/faults", json={"kind": "refuse_connections", "session_phone": PHONE})
    await phones.post("/faults", json={"kind": "drop_connection", "session_phone": PHONE})
    missed = [
        await write(chat, **{"from": chat.contact}, text="an hour ago", age_s=3600),
        await write(chat, **{"from": PHONE}, to=chat.contact, text="by hand", age_s=1800),
    ]
    await phones.delete("/faults")

    backlog = [await chat.received(wire_id) for wire_id in missed]
    live = await chat.received(await write(chat, **{"from": chat.contact}, text="now"))

    assert [one["backfilled"] for one in (*backlog, live)] == [True, True, False]
    age = datetime.now(UTC) - datetime.fromisoformat(backlog[0]["wa_timestamp"])
    assert timedelta(hours=1) <= age < timedelta(hours=2)
    assert (await told(chat, "message.received", missed[0]))["backfilled"] is True
    assert (await told(chat, "message.sent", missed[1]))["backfilled"] is True


async def test_what_cannot_be_decrypted_is_told_once_and_comes_once_when_it_is_repaired(chat: Chat) -> None:
    await put(chat, chat.contact, addressing="lid")

    wire_id = await write(chat, **{"from": chat.contact}, text="at last", undecryptable=True)
    received = await chat.received(wire_id)

    await told(chat, "message.received", wire_id)
    lost = await told(chat, "message.undecryptable", wire_id)
    assert (lost["jid"], lost["phone"], lost["lid"]) == (chat.jid, chat.contact, lid(chat.contact))
    assert (lost["from_me"], lost["source"], lost["wa_timestamp"]) == (False, "phone", received["wa_timestamp"])
    assert received["payload"] == {"text": "at last"}
    assert sorted(one["event"] for one in webhooks(chat, wire_id)) == ["message.received", "message.undecryptable"]


async def test_messages_to_both_names_of_a_person_keep_their_order(chat: Chat) -> None:
    await put(chat, chat.contact, addressing="lid")
    await chat.received(await write(chat, **{"from": chat.contact}, text="here I am"))

    accepted = [
        await chat.accept("text", {"text": str(number)}, to=lid(chat.contact) if number % 2 else chat.contact)
        for number in range(6)
    ]
    await asyncio.gather(*(chat.settled(one["id"], "sent", "delivered", "read") for one in accepted))

    rows = (await chat.stack.phones.get("/wire", params={"contact": chat.contact})).json()["data"]
    assert [row["text"] for row in rows] == [str(number) for number in range(6)]
