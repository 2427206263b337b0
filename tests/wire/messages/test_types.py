"""Each type without a file, both ways: from the API to the wire, and from a contact to row, event and webhook."""

from typing import Any

import pytest

from tests.wire.messages.conftest import PHONE, Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]

OWN = f"{PHONE}@s.whatsapp.net"


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("text", {"text": "plain"}),
        (
            "text",
            {"text": "https://a.example", "preview": {"url": "https://a.example", "title": "A", "description": "B"}},
        ),
        ("location", {"latitude": -23.5, "longitude": -46.625, "name": "Here", "address": "Rua 1"}),
        ("contact", {"name": "Ana", "phone": "5511900001111"}),
        ("poll", {"question": "When?", "options": ["now", "later"], "max": 2}),
    ],
)
async def test_what_is_sent_is_on_the_wire_as_it_was_said(chat: Chat, type_: str, payload: dict[str, Any]) -> None:
    sent = await chat.send(type_, payload)

    row = await chat.on_wire(sent)
    assert (row["type"], row["to"], row["payload"]) == (type_, chat.contact, payload)
    assert (await chat.told("message.sent", sent["id"]))["type"] == type_


async def test_mentions_and_a_reply_are_on_the_wire(chat: Chat) -> None:
    question = await chat.received(await chat.write("text", {"text": "who?"}))

    sent = await chat.send("text", {"text": "@5511900001111"}, reply_to=question["id"], mentions=["+55 11 90000-1111"])

    row = await chat.on_wire(sent)
    assert row["payload"]["reply_to"] == question["wa_message_id"]
    assert row["payload"]["mentions"] == ["5511900001111@s.whatsapp.net"]


@pytest.mark.parametrize("name", ["id", "message_id", "wa_message_id"])
async def test_a_reaction_an_edit_and_a_revocation_name_the_message_by_any_of_its_ids(chat: Chat, name: str) -> None:
    sent = await chat.send("text", {"text": "first"}, message_id=f"mine-{name}-{chat.contact}")
    wire_id = sent["wa_message_id"]

    reaction = await chat.send("reaction", {"message_id": sent[name], "emoji": "👍"})
    edit = await chat.send("edit", {"message_id": sent[name], "text": "second"})
    revocation = await chat.send("revoke", {"message_id": sent[name]})

    assert (await chat.on_wire(reaction))["payload"] == {"message_id": wire_id, "emoji": "👍"}
    assert (await chat.on_wire(edit))["payload"] == {"message_id": wire_id, "text": "second"}
    assert (await chat.on_wire(revocation))["payload"] == {"message_id": wire_id}
    assert [one["target_id"] for one in (reaction, edit, revocation)] == [sent["id"]] * 3
    shown = await chat.shown(sent["id"])
    assert shown["payload"] == {"text": "first"}
    assert shown["edited"]["text"] == "second"
    assert [(one["from"], one["emoji"]) for one in shown["reactions"]] == [(OWN, "👍")]
    assert shown["revoked_at"] is not None


async def test_a_contacts_message_can_be_reacted_to(chat: Chat) -> None:
    received = await chat.received(await chat.write("text", {"text": "nice?"}))

    first = await chat.send("reaction", {"message_id": received["id"], "emoji": "👍"})
    await chat.send("reaction", {"message_id": received["id"], "emoji": ""})

    assert (await chat.on_wire(first))["payload"]["message_id"] == received["wa_message_id"]
    assert (await chat.shown(received["id"]))["reactions"] == []


async def test_an_edit_right_behind_its_message_waits_for_it(chat: Chat) -> None:
    message = await chat.accept("text", {"text": "frist"})
    edit = await chat.accept("edit", {"message_id": message["id"], "text": "first"})

    sent = await chat.settled(message["id"], "sent", "delivered")
    edited = await chat.settled(edit["id"], "sent", "delivered")

    assert (await chat.on_wire(edited))["payload"] == {"message_id": sent["wa_message_id"], "text": "first"}


@pytest.mark.parametrize(
    ("type_", "payload", "code"),
    [
        ("reaction", {"message_id": "nobody-knows-this", "emoji": "👍"}, "NOT_FOUND"),
        ("edit", {"message_id": "THEIRS", "text": "not mine"}, "INVALID_TARGET"),
        ("revoke", {"message_id": "THEIRS"}, "INVALID_TARGET"),
    ],
)
async def test_a_message_that_cannot_be_meant_is_refused_for_good(
    chat: Chat, type_: str, payload: dict[str, Any], code: str
) -> None:
    received = await chat.received(await chat.write("text", {"text": "mine"}))
    named = {**payload, "message_id": payload["message_id"].replace("THEIRS", received["id"])}

    message = await chat.accept(type_, named)
    refused = await chat.settled(message["id"], "dlq")

    assert (refused["error"]["code"], refused["error"]["retryable"]) == (code, False)


@pytest.mark.parametrize(
    ("type_", "payload", "stored"),
    [
        ("text", {"text": "plain"}, {"text": "plain"}),
        ("location", {"latitude": -23.5, "longitude": -46.625, "name": "Here"}, {"latitude": -23.5, "name": "Here"}),
        ("contact", {"name": "Ana", "phone": "5511900001111"}, {"name": "Ana", "phone": "5511900001111"}),
        ("poll", {"question": "When?", "options": ["now", "later"]}, {"options": ["now", "later"], "max": 1}),
    ],
)
async def test_what_a_contact_sends_is_stored_and_told(
    chat: Chat, type_: str, payload: dict[str, Any], stored: dict[str, Any]
) -> None:
    received = await chat.received(await chat.write(type_, payload))

    assert (received["direction"], received["type"], received["from"]) == ("inbound", type_, chat.jid)
    assert stored.items() <= received["payload"].items()
    assert (await chat.told("message.received", received["id"]))["payload"] == received["payload"]


async def test_a_contacts_reply_and_mentions_are_where_ours_are(chat: Chat) -> None:
    sent = await chat.send("text", {"text": "who?"})
    said = {"text": "@5511900001111", "reply_to": sent["wa_message_id"], "mentions": ["5511900001111"]}

    received = await chat.received(await chat.write("text", said))

    assert received["payload"] == {"text": "@5511900001111"}
    assert (received["reply_to"], received["mentions"]) == (sent["wa_message_id"], ["5511900001111@s.whatsapp.net"])


async def test_a_contacts_reaction_is_told_and_shown_on_the_message(chat: Chat) -> None:
    sent = await chat.send("text", {"text": "good?"})

    mark = await chat.received(await chat.write("reaction", {"message_id": sent["wa_message_id"], "emoji": "❤"}))

    told = await chat.told("message.reaction", mark["id"])
    assert (told["target_id"], told["payload"]["emoji"], told["from"]) == (sent["id"], "❤", chat.jid)
    assert [(one["from"], one["emoji"]) for one in (await chat.shown(sent["id"]))["reactions"]] == [(chat.jid, "❤")]


async def test_a_contacts_edit_and_revocation_are_told_and_shown_on_the_message(chat: Chat) -> None:
    wire_id = await chat.write("text", {"text": "frist"})
    original = await chat.received(wire_id)

    edit = await chat.received(await chat.write("edit", {"message_id": wire_id, "text": "first"}))
    revocation = await chat.received(await chat.write("revoke", {"message_id": wire_id}))

    assert (await chat.told("message.edited", edit["id"]))["payload"]["text"] == "first"
    assert (await chat.told("message.revoked", revocation["id"]))["target_id"] == original["id"]
    shown = await chat.shown(original["id"])
    assert (shown["payload"], shown["edited"]["text"]) == ({"text": "frist"}, "first")
    assert shown["revoked_at"] is not None


async def test_a_vote_is_opened_told_and_replaced_by_the_next_one(chat: Chat) -> None:
    poll = await chat.send("poll", {"question": "When?", "options": ["now", "later"]})

    first = await chat.received(
        await chat.write("poll_vote", {"message_id": poll["wa_message_id"], "options": ["now"]})
    )
    again = {"message_id": poll["wa_message_id"], "options": ["later"]}
    second = await chat.received(await chat.write("poll_vote", again))

    told = await chat.told("message.poll_vote", first["id"])
    assert (told["target_id"], told["payload"]["options"], told["from"]) == (poll["id"], ["now"], chat.jid)
    assert second["payload"]["options"] == ["later"]
    votes = (await chat.shown(poll["id"]))["votes"]
    assert [(one["from"], one["options"]) for one in votes] == [(chat.jid, ["later"])]
