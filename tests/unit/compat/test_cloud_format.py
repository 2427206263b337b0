"""The Cloud API's `messages` webhook, held against the shapes of Meta's reference."""

import json
from typing import Any

import pytest

from shared.webhooks.formats import cloud_api
from shared.webhooks.formats.occasion import Known
from shared.webhooks.formats.wamid import reference_of, wamid
from tests.unit.compat.occasions import CONTACT, MESSAGE, UNIX, connection, message, occasion, sent


def told(type_: str, payload: Any, *, known: dict[str, Known] | None = None) -> Any:
    body = cloud_api.body_of(occasion(type_, payload, known=known))
    return None if body is None else json.loads(body)


def value(type_: str, payload: Any, *, known: dict[str, Known] | None = None) -> Any:
    [entry] = told(type_, payload, known=known)["entry"]
    [change] = entry["changes"]
    return change["value"]


def test_a_text_that_came_in() -> None:
    assert told("message.received", message()) == {
        "object": "whatsapp_business_account",
        "entry": [
            {
                "id": "loja1",
                "changes": [
                    {
                        "value": {
                            "messaging_product": "whatsapp",
                            "metadata": {"display_phone_number": "5511988880001", "phone_number_id": "loja1"},
                            "contacts": [{"profile": {"name": "Ana"}, "wa_id": "5511977770002"}],
                            "messages": [
                                {
                                    "from": "5511977770002",
                                    "id": wamid(MESSAGE),
                                    "timestamp": str(UNIX),
                                    "type": "text",
                                    "text": {"body": "olá"},
                                }
                            ],
                        },
                        "field": "messages",
                    }
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("type_", "payload", "kind", "content"),
    [
        (
            "image",
            {"mimetype": "image/jpeg", "sha256": "aGk=", "caption": "foto", "media_id": "m-1"},
            "image",
            {"mime_type": "image/jpeg", "sha256": "aGk=", "caption": "foto", "id": "m-1"},
        ),
        (
            "audio",
            {"mimetype": "audio/ogg; codecs=opus", "ptt": True},
            "audio",
            {"mime_type": "audio/ogg; codecs=opus", "voice": True},
        ),
        (
            "location",
            {"latitude": 37.4, "longitude": -122.1, "name": None, "address": "1 Hacker Way"},
            "location",
            {"latitude": 37.4, "longitude": -122.1, "address": "1 Hacker Way"},
        ),
        (
            "contact",
            {"name": "Bia", "phone": "5511900000000"},
            "contacts",
            [
                {
                    "name": {"formatted_name": "Bia", "first_name": "Bia"},
                    "phones": [{"phone": "+5511900000000", "wa_id": "5511900000000", "type": "CELL"}],
                }
            ],
        ),
    ],
)
def test_each_type_has_an_object_of_its_name(type_: str, payload: dict[str, Any], kind: str, content: Any) -> None:
    [found] = value("message.received", message(type=type_, payload=payload))["messages"]

    assert (found["type"], found[kind]) == (kind, content)


def test_what_they_have_no_type_for_is_unsupported() -> None:
    [found] = value("message.received", message(type="poll", payload={"question": "?"}))["messages"]

    assert (found["type"], found["errors"][0]["code"]) == ("unsupported", 131051)


def test_a_reply_and_a_reaction_name_a_message_as_it_was_answered() -> None:
    ours = {"WIRE-1": Known(id=MESSAGE, message_id="order-77", from_me=True)}
    thumb = {"message_id": "WIRE-1", "emoji": "👍"}

    [reply] = value("message.received", message(payload={"text": "sim", "reply_to": "WIRE-1"}), known=ours)["messages"]
    [reaction] = value("message.reaction", message(type="reaction", payload=thumb), known=ours)["messages"]
    [undone] = value("message.reaction", message(type="reaction", payload={**thumb, "emoji": ""}), known=ours)[
        "messages"
    ]

    assert reply["context"] == {"from": "5511988880001", "id": wamid(MESSAGE)}
    assert reaction["reaction"] == {"message_id": wamid(MESSAGE), "emoji": "👍"}
    assert undone["reaction"] == {"message_id": wamid(MESSAGE)}


@pytest.mark.parametrize(
    ("type_", "fields", "theirs"),
    [
        ("message.sent", {"sent_at": "2026-01-31T12:00:00.000Z"}, "sent"),
        ("message.delivered", {"delivered_at": "2026-01-31T12:00:00.000Z"}, "delivered"),
        ("message.read", {"read_at": "2026-01-31T12:00:00.000Z"}, "read"),
        ("message.played", {"played_at": "2026-01-31T12:00:00.000Z"}, "played"),
    ],
)
def test_what_becomes_of_a_send_is_a_status(type_: str, fields: dict[str, Any], theirs: str) -> None:
    found = value(type_, sent(**fields, metadata={"biz_opaque_callback_data": "order 7"}))

    assert found["statuses"] == [
        {
            "id": wamid(MESSAGE),
            "status": theirs,
            "timestamp": str(UNIX),
            "recipient_id": "5511977770002",
            "biz_opaque_callback_data": "order 7",
        }
    ]


@pytest.mark.parametrize(
    ("type_", "error", "number"),
    [
        ("message.dlq", {"code": "NUMBER_NOT_ON_WHATSAPP", "detail": "no such number"}, 131026),
        ("message.dlq", {"code": "SOMETHING_ELSE", "detail": "what it was"}, 131000),
        ("message.expired", None, 131000),
        ("message.canceled", None, 131000),
    ],
)
def test_a_send_that_ended_without_is_failed_with_their_number(
    type_: str, error: dict[str, str] | None, number: int
) -> None:
    [status] = value(type_, sent(error=error))["statuses"]

    assert status["status"] == "failed"
    assert status["errors"][0]["code"] == number
    assert status["errors"][0]["error_data"]["details"]


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("session.status", connection()),
        ("message.queued", sent()),
        ("message.sent", sent(source="phone")),
        ("message.failed", sent()),
        ("message.edited", message(type="edit")),
        ("message.received", message(jid="120363012345678901@g.us")),
    ],
)
def test_what_they_have_no_words_for_is_not_told(type_: str, payload: Any) -> None:
    assert told(type_, payload) is None


def test_an_alias_whose_number_is_unknown_can_be_answered_to() -> None:
    alias = "123456789@lid"

    found = value("message.received", message(jid=alias, phone=None, **{"from": alias}))

    assert (found["messages"][0]["from"], found["contacts"][0]["wa_id"]) == (alias, alias)


def test_a_wamid_names_what_it_was_made_of_and_one_of_metas_names_nothing() -> None:
    assert wamid(MESSAGE).startswith("wamid.")
    assert reference_of(wamid(MESSAGE)) == MESSAGE
    assert reference_of(wamid("3EB0AAAA")) == "3EB0AAAA"
    for stranger in ("wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=", MESSAGE, "wamid.", "wamid.é"):
        assert reference_of(stranger) is None, stranger


def test_the_contacts_number_is_digits() -> None:
    assert value("message.received", message())["contacts"][0]["wa_id"] == CONTACT.partition("@")[0]
