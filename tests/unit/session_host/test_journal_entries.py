"""What is journaled, with numbers in place of aliases, and what an event says of a message that nobody could read."""

import json
from typing import Any
from uuid import uuid4

from session_host.journal_entries import Entry, entry_of, numbered, only_lids, shown
from session_host.whatsapp.port import Inbound, Undecryptable
from shared.domain.ids import ConnectionId, WireId

SESSION = ConnectionId(uuid4())
ANA, ANAS_LID, GROUP = "551187654321@s.whatsapp.net", "123456@lid", "120363000000000001@g.us"


def unreadable(**changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "wire_id": WireId("3A1"),
        "chat": ANAS_LID,
        "chat_alias": None,
        "sender": ANAS_LID,
        "sender_alias": ANAS_LID,
        "wire_sender": ANAS_LID,
        "participant": None,
        "push_name": "Ana",
        "from_me": False,
        "timestamp_ms": 1_700_000_000_000,
        **changes,
    }
    [entry] = entry_of(SESSION, Undecryptable(**fields))
    return entry


def test_an_alias_alone_gets_its_number_and_stays_beside_it() -> None:
    direct, in_group = unreadable(), unreadable(chat=GROUP, participant=ANAS_LID)
    assert (only_lids(direct), only_lids(in_group)) == ({ANAS_LID}, {ANAS_LID})

    told = shown(SESSION, numbered(direct, {ANAS_LID: ANA})["payload"])
    told_in_group = shown(SESSION, numbered(in_group, {ANAS_LID: ANA})["payload"])

    assert [told[name] for name in ("jid", "phone", "lid", "from")] == [ANA, "551187654321", ANAS_LID, ANA]
    names = ("jid", "phone", "lid", "from", "participant", "participant_lid")
    assert [told_in_group[name] for name in names] == [GROUP, None, None, ANA, ANA, ANAS_LID]


def test_an_alias_whose_number_nobody_knows_is_the_chat() -> None:
    told = shown(SESSION, numbered(unreadable(), {})["payload"])

    assert [told[name] for name in ("jid", "phone", "lid")] == [ANAS_LID, None, ANAS_LID]
    assert (told["wa_timestamp"], told["wa_message_id"]) == ("2023-11-14T22:13:20.000Z", "3A1")


def test_an_entry_of_an_older_version_is_shown_by_what_it_has() -> None:
    told = shown(SESSION, {"waMessageId": "3A1", "chat": ANA, "timestamp": 1_700_000_000_000})

    assert (told["phone"], told["lid"], told["from_me"], told["backfilled"]) == ("551187654321", None, False, False)


def test_what_neither_json_nor_postgres_can_hold_does_not_keep_a_message_from_being_written_down() -> None:
    content = {"text": b"caf\xe9", "mentions": ["a\x00b"], "latitude": float("nan"), "seconds": 3, "ptt": True}
    fields = {"chat": ANA, "chat_alias": None, "sender": ANA, "wire_sender": ANA, "participant": None}
    message = Inbound(
        wire_id=WireId("3A1"),
        push_name="An\x00a",
        from_me=False,
        timestamp_ms=1,
        type="text",
        content=content,
        **fields,
    )

    [entry] = json.loads(json.dumps(entry_of(SESSION, message), allow_nan=False))

    assert entry["data"]["content"] == {
        "text": "caf\ufffd",
        "mentions": ["a\ufffdb"],
        "latitude": None,
        "seconds": 3,
        "ptt": True,
    }
    assert entry["data"]["pushName"] == "An\ufffda"
    assert unreadable(push_name=b"\xff")["payload"]["pushName"] == "\ufffd"
