"""Typing, marking as read, and asking for numbers: from the API to the wire."""

from typing import Any

import pytest

from tests.e2e.conftest import until
from tests.wire.messages.conftest import PHONE, Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]


async def signal(chat: Chat, kind: str) -> dict[str, Any]:
    """What the chat saw last of this kind."""

    async def look() -> dict[str, Any] | None:
        rows = (await chat.stack.phones.get("/signals", params={"session_phone": PHONE})).json()["data"]
        return next((row for row in reversed(rows) if (row["kind"], row["chat"]) == (kind, chat.jid)), None)

    return await until(look, within_s=30, what=f"{chat.jid} saw {kind}")


async def ask(chat: Chat, call: str, body: dict[str, Any]) -> Any:
    return await chat.stack.api.post(f"/connections/{chat.connection}/{call}", json=body)


@pytest.mark.parametrize(
    ("state", "seen"),
    [("composing", ("composing", "text")), ("recording", ("composing", "audio")), ("paused", ("paused", "text"))],
)
async def test_a_chat_sees_that_somebody_types(chat: Chat, state: str, seen: tuple[str, str]) -> None:
    answer = await ask(chat, "typing", {"to": chat.contact, "state": state})

    assert (answer.status_code, answer.json()) == (200, {"to": chat.jid, "state": state})
    row = await signal(chat, "typing")
    assert (row["state"], row["media"]) == seen


async def test_a_contact_sees_that_its_messages_were_read(chat: Chat) -> None:
    first = await chat.received(await chat.write("text", {"text": "one"}))
    second = await chat.received(await chat.write("text", {"text": "two"}))

    answer = await ask(chat, "read", {"message_ids": [first["id"], second["wa_message_id"]]})

    assert (answer.status_code, answer.json()) == (200, {"count": 2})
    assert (await signal(chat, "read"))["wire_ids"] == [first["wa_message_id"], second["wa_message_id"]]


async def test_in_a_group_the_receipt_names_the_writer(group: Chat) -> None:
    received = await group.received(await group.write("text", {"text": "one"}))

    assert (await ask(group, "read", {"message_ids": [received["id"]]})).status_code == 200

    row = await signal(group, "read")
    assert (row["wire_ids"], row["participant"]) == ([received["wa_message_id"]], f"{group.contact}@s.whatsapp.net")


async def test_only_what_was_received_can_be_read(chat: Chat) -> None:
    sent = await chat.send("text", {"text": "mine"})

    answer = await ask(chat, "read", {"message_ids": [sent["id"]]})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/message_ids/0")


async def test_numbers_are_looked_up_in_any_spelling(chat: Chat) -> None:
    nobody = chat.contact[:-1]
    await chat.stack.phones.post("/contacts", json={"phone": nobody, "on_whatsapp": False})

    answer = await ask(chat, "contacts/check", {"phones": [f"+{chat.contact}", nobody]})

    assert answer.json() == {
        "data": [
            {"phone": chat.contact, "on_whatsapp": True, "jid": chat.jid, "lid": f"9{chat.contact}@lid"},
            {"phone": nobody, "on_whatsapp": False, "jid": None, "lid": None},
        ]
    }


async def test_a_bulk_of_unknown_numbers_is_slowed_down(chat: Chat) -> None:
    phones = [f"552188{number:07}" for number in range(200)]
    # Another connection, as the quota is each connection's own.
    made = await chat.stack.pair("5511955550011")
    where = f"/connections/{made['connection']['id']}/contacts/check"
    await chat.stack.api.post(where, json={"phones": phones[:100]})

    answer = await chat.stack.api.post(where, json={"phones": phones[100:]})

    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert int(answer.headers["Retry-After"]) > 0


async def test_an_offline_connection_cannot_show_anything(chat: Chat) -> None:
    made = (await chat.stack.api.post("/connections", json={"label": "not linked"})).json()["connection"]["id"]

    for call, body in (
        ("typing", {"to": chat.contact}),
        ("read", {"message_ids": ["x"]}),
        ("contacts/check", {"phones": [chat.contact]}),
    ):
        answer = await chat.stack.api.post(f"/connections/{made}/{call}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "CONNECTION_OFFLINE")
