"""The Cloud API's `messages` call: Meta's documented requests become messages of ours, and are answered as it does."""

from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from shared.webhooks.formats.wamid import wamid
from tests.integration.compat.conftest import CLOUD, Ledger, client_of

NUMBER = "16505551234"
JID = f"{NUMBER}@s.whatsapp.net"
WHATSAPP = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": f"+{NUMBER}"}
TEXT = {**WHATSAPP, "type": "text", "text": {"body": "hi"}}
METAS = "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA="


async def stored(database: Connection) -> dict[str, Any]:
    [row] = await database.fetch("SELECT id, jid, type, payload, reply_to, metadata FROM messages")
    return dict(row)


async def test_a_text_as_documented(cloud: httpx.AsyncClient, database: Connection, shop: dict[str, Any]) -> None:
    answer = await cloud.post(
        "/loja1/messages",
        json={
            **WHATSAPP,
            "type": "text",
            "text": {"preview_url": True, "body": "As requested, the link: https://www.meta.com/quest"},
            "context": {"message_id": wamid("3EB0AAAA")},
            "biz_opaque_callback_data": "order 7",
        },
    )

    assert answer.status_code == 200, answer.text
    row = await stored(database)
    assert (row["jid"], row["type"]) == (JID, "text")
    assert row["payload"] == {"text": "As requested, the link: https://www.meta.com/quest"}
    assert (row["reply_to"], row["metadata"]) == ("3EB0AAAA", {"biz_opaque_callback_data": "order 7"})
    assert answer.json() == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": f"+{NUMBER}", "wa_id": NUMBER}],
        "messages": [{"id": wamid(str(row["id"]))}],
    }


@pytest.mark.parametrize(
    ("said", "type_", "payload"),
    [
        (
            {
                "type": "location",
                "location": {
                    "latitude": "37.44216251868683",
                    "longitude": "-122.16153582049394",
                    "name": "Philz Coffee",
                    "address": "101 Forest Ave",
                },
            },
            "location",
            {
                "latitude": 37.44216251868683,
                "longitude": -122.16153582049394,
                "name": "Philz Coffee",
                "address": "101 Forest Ave",
            },
        ),
        (
            {
                "type": "contacts",
                "contacts": [
                    {
                        "addresses": [{"street": "1 Lucky Shrub Way", "type": "HOME"}],
                        "emails": [{"email": "bj@example.com", "type": "HOME"}],
                        "name": {"formatted_name": "Barbara J. Johnson", "first_name": "Barbara"},
                        "org": {"company": "Lucky Shrub"},
                        "phones": [{"phone": "+1 650 555 9999", "type": "HOME", "wa_id": "16505559999"}],
                    }
                ],
            },
            "contact",
            {"name": "Barbara J. Johnson", "phone": "16505559999"},
        ),
        (
            {"type": "reaction", "reaction": {"message_id": wamid("3EB0AAAA"), "emoji": "😀"}},
            "reaction",
            {"message_id": "3EB0AAAA", "emoji": "😀"},
        ),
        ({"text": {"body": "type is text when it is left out"}}, "text", {"text": "type is text when it is left out"}),
    ],
)
async def test_other_types_as_documented(
    cloud: httpx.AsyncClient,
    database: Connection,
    shop: dict[str, Any],
    said: dict[str, Any],
    type_: str,
    payload: dict[str, Any],
) -> None:
    answer = await cloud.post("/loja1/messages", json={**WHATSAPP, **said})

    assert answer.status_code == 200, answer.text
    row = await stored(database)
    assert (row["type"], row["payload"]) == (type_, payload)


WRONG = [
    ({**WHATSAPP, "type": "text"}, 131009),
    ({"messaging_product": "whatsapp", "type": "text", "text": {"body": "hi"}}, 131008),
    ({**TEXT, "messaging_product": "instagram"}, 131009),
    ({**TEXT, "recipient_type": "group"}, 131009),
    ({**TEXT, "to": "12"}, 131009),
    ({**TEXT, "to": "120363012345678901@g.us"}, 131009),
    ({**TEXT, "text": {"body": ""}}, 131009),
    ({**TEXT, "text": {"body": "hi", "colour": "red"}}, 100),
    ({**TEXT, "surprise": 1}, 100),
    ({**TEXT, "type": "hologram"}, 131009),
    ({**TEXT, "type": ["text"]}, 131009),
    ({**TEXT, "context": {"message_id": METAS}}, 131009),
    ({**WHATSAPP, "type": "reaction", "reaction": {"message_id": METAS, "emoji": "😀"}}, 131009),
    ({**WHATSAPP, "type": "interactive", "interactive": {"type": "button"}}, 131051),
    ({**WHATSAPP, "type": "template", "template": {"name": "hello_world", "language": {"code": "en"}}}, 131051),
    ({**WHATSAPP, "type": "image", "image": {}}, 131009),
    ({**WHATSAPP, "type": "image", "image": {"id": "1", "link": "https://example.com/a.png"}}, 131009),
    ({"messaging_product": "whatsapp", "status": "read", "message_id": METAS}, 131009),
    ({"messaging_product": "whatsapp", "status": "read", "message_id": wamid("A" * 300)}, 131009),
]


async def test_what_is_wrong_has_their_number_and_changes_nothing(
    cloud: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any]
) -> None:
    before = await ledger.rows()

    for said, number in WRONG:
        answer = await cloud.post("/loja1/messages", json=said)

        assert answer.status_code == 400, (said, answer.text)
        error = answer.json()["error"]
        assert error["code"] == number, (said, error)
        assert error["message"].startswith(f"(#{number}) ")
        assert error["type"] == "OAuthException"
        assert error["error_data"]["messaging_product"] == "whatsapp"
        assert error["error_data"]["details"]
        assert error["fbtrace_id"] == answer.headers["x-request-id"]
    assert await ledger.rows() == before


async def test_the_wrong_value_is_named_as_its_sender_named_it(cloud: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    wrong = {
        "text.body": {**TEXT, "text": {"body": ""}},
        "to": {**TEXT, "to": "12"},
        "location.latitude": {**WHATSAPP, "type": "location", "location": {"latitude": 91, "longitude": 0}},
        "image.link": {**WHATSAPP, "type": "image", "image": {"link": "ftp://example.com/a.png"}},
    }

    for place, said in wrong.items():
        answer = await cloud.post("/loja1/messages", json=said)

        assert answer.json()["error"]["error_data"]["details"].startswith(f"{place}: "), answer.text


@pytest.mark.parametrize("version", ["v16.0", "v21.0", "v23.0"])
async def test_any_version_will_do_and_none(
    api: httpx.AsyncClient, cloud: httpx.AsyncClient, shop: dict[str, Any], version: str
) -> None:
    headers = dict(cloud.headers)

    versioned = await api.post(f"/compat/cloud/{version}/loja1/messages", json=TEXT, headers=headers)
    plain = await api.post("/compat/cloud/loja1/messages", json=TEXT, headers=headers)

    assert (versioned.status_code, plain.status_code) == (200, 200)


async def test_a_wrong_token_is_their_190(api: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any]) -> None:
    before = await ledger.rows()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        async with client_of(api, CLOUD, headers) as stranger:
            answer = await stranger.post("/loja1/messages", json=TEXT)

        assert answer.status_code == 401
        assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == (190, "OAuthException")
    assert await ledger.rows() == before


async def test_a_number_that_is_not_there_is_their_subcode_33(cloud: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    nobody = await cloud.post("/106540352242922/messages", json=TEXT)
    odd = await cloud.post("/loja1%00/messages", json=TEXT)
    nowhere = await cloud.get("/106540352242922/whatsapp_business_profile")

    for answer in (nobody, odd, nowhere):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["error_subcode"], error["type"]) == (100, 33, "GraphMethodException")


async def test_a_closed_number_is_not_registered(
    cloud: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    await database.execute("UPDATE connections SET status = 'closed'")

    answer = await cloud.post("/loja1/messages", json=TEXT)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 133010)


async def test_the_same_idempotency_key_is_the_same_message(
    cloud: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "order-7"}

    first = await cloud.post("/loja1/messages", json=TEXT, headers=headers)
    second = await cloud.post("/loja1/messages", json=TEXT, headers=headers)
    other = await cloud.post("/loja1/messages", json={**TEXT, "text": {"body": "bye"}}, headers=headers)

    assert first.json() == second.json()
    assert await database.fetchval("SELECT count(*) FROM messages") == 1
    assert (other.status_code, other.json()["error"]["code"]) == (409, 100)
