"""Groups: written to, read from with who wrote, receipts of members, and messages there that mean others."""

from typing import Any

import pytest

from tests.wire.messages.conftest import PHONE, Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]


def jid(phone: str) -> str:
    return f"{phone}@s.whatsapp.net"


async def test_a_group_gets_a_message_once_and_a_members_receipt_moves_it(group: Chat) -> None:
    await group.stack.phones.post("/contacts", json={"phone": group.contact, "auto_receipts": ["delivered", "read"]})

    sent = await group.send("text", {"text": "hello all"})
    read = await group.settled(sent["id"], "read")

    row = await group.on_wire(sent)
    assert (row["to"], row["text"]) == (group.group, "hello all")
    assert (read["jid"], read["to"], read["phone"]) == (group.group, group.group, None)


async def test_a_members_message_says_who_wrote_it(group: Chat) -> None:
    received = await group.received(await group.write("text", {"text": "hello from me"}))

    assert (received["jid"], received["participant"], received["from"]) == (
        group.group,
        jid(group.contact),
        jid(group.contact),
    )
    assert (received["payload"], received["from_me"], received["phone"]) == ({"text": "hello from me"}, False, None)
    assert (await group.told("message.received", received["id"]))["participant"] == jid(group.contact)


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("location", {"latitude": 1.5, "longitude": 2.5}),
        ("contact", {"name": "Ana", "phone": "5511900001111"}),
        ("poll", {"question": "?", "options": ["a", "b"], "max": 1}),
    ],
)
async def test_other_types_go_both_ways_too(group: Chat, type_: str, payload: dict[str, Any]) -> None:
    sent = await group.send(type_, payload)
    received = await group.received(await group.write(type_, payload))

    assert (await group.on_wire(sent))["payload"] == payload
    assert payload.items() <= received["payload"].items()


async def test_what_means_a_members_message_names_its_writer(group: Chat) -> None:
    received = await group.received(await group.write("text", {"text": "theirs"}))

    reaction = await group.send("reaction", {"message_id": received["id"], "emoji": "👍"})
    revocation = await group.send("revoke", {"message_id": received["id"]})
    reply = await group.send("text", {"text": "mine"}, reply_to=received["id"])

    meant = {"message_id": received["wa_message_id"], "participant": jid(group.contact)}
    assert (await group.on_wire(reaction))["payload"] == {**meant, "emoji": "👍"}
    assert (await group.on_wire(revocation))["payload"] == meant
    assert (await group.on_wire(reply))["payload"]["reply_to"] == received["wa_message_id"]
    assert (await group.shown(received["id"]))["revoked_at"] is not None


async def test_what_means_a_message_of_ours_names_nobody(group: Chat) -> None:
    sent = await group.send("text", {"text": "first"})

    edit = await group.send("edit", {"message_id": sent["id"], "text": "second"})

    assert (await group.on_wire(edit))["payload"] == {"message_id": sent["wa_message_id"], "text": "second"}


async def test_members_react_and_vote(group: Chat) -> None:
    poll = await group.send("poll", {"question": "When?", "options": ["now", "later"]})

    named = {"message_id": poll["wa_message_id"]}
    reaction = await group.received(await group.write("reaction", {**named, "emoji": "❤"}))
    vote = await group.received(await group.write("poll_vote", {**named, "options": ["now", "later"]}))

    assert (reaction["participant"], reaction["target_id"]) == (jid(group.contact), poll["id"])
    told = await group.told("message.poll_vote", vote["id"])
    assert (told["participant"], told["payload"]["options"]) == (jid(group.contact), ["now", "later"])
    shown = await group.shown(poll["id"])
    assert [one["from"] for one in (*shown["reactions"], *shown["votes"])] == [jid(group.contact)] * 2


async def test_what_the_phone_missed_is_read_when_it_is_back(group: Chat) -> None:
    await group.stack.phones.post("/faults", json={"kind": "drop_connection", "session_phone": PHONE})

    wire_ids = [await group.write("text", {"text": f"missed {number}"}) for number in range(3)]
    received = [await group.received(wire_id) for wire_id in wire_ids]

    assert [one["payload"]["text"] for one in received] == ["missed 0", "missed 1", "missed 2"]


async def test_a_group_that_the_number_is_not_in_is_refused_for_good(group: Chat) -> None:
    other = {"subject": "Others", "members": [group.contact], "without": [PHONE]}
    made = await group.stack.phones.post("/groups", json=other)

    message = await group.accept("text", {"text": "let me in"}, to=made.json()["jid"])
    refused = await group.settled(message["id"], "dlq")

    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("RECIPIENT_REFUSED", False)
