"""Evolution's `message/*`: its documented requests become messages of ours, and are answered as it answers them."""

from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from tests.integration.compat.conftest import EVOLUTION, Ledger, client_of

NUMBER = "5511999998888"
JID = f"{NUMBER}@s.whatsapp.net"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def stored(database: Connection) -> dict[str, Any]:
    [row] = await database.fetch("SELECT id, message_id, jid, type, payload, reply_to, mentions, status FROM messages")
    return dict(row)


async def test_a_text_as_documented(evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]) -> None:
    answer = await evolution.post(
        "/message/sendText/loja1",
        json={
            "number": NUMBER,
            "text": "Olá!",
            "delay": 1200,
            "linkPreview": True,
            "mentionsEveryOne": False,
            "mentioned": ["5511988887777"],
            "quoted": {"key": {"id": "BAE594145F4C59B4"}, "message": {"conversation": "oi"}},
        },
    )

    assert answer.status_code == 201, answer.text
    row = await stored(database)
    assert (row["jid"], row["type"], row["payload"]) == (JID, "text", {"text": "Olá!"})
    assert (row["reply_to"], row["mentions"]) == ("BAE594145F4C59B4", ["5511988887777@s.whatsapp.net"])
    body = answer.json()
    assert body["key"] == {"remoteJid": JID, "fromMe": True, "id": row["message_id"]}
    assert body["message"] == {"conversation": "Olá!"}
    assert body["contextInfo"]["stanzaId"] == "BAE594145F4C59B4"
    assert (body["status"], body["messageType"], body["instanceId"]) == ("PENDING", "conversation", shop["id"])
    assert isinstance(body["messageTimestamp"], int)


@pytest.mark.parametrize(
    ("call", "said", "type_", "payload", "kind"),
    [
        (
            "sendLocation",
            {"name": "Bora", "address": "Av. 1", "latitude": -16.5, "longitude": -42.3},
            "location",
            {"latitude": -16.5, "longitude": -42.3, "name": "Bora", "address": "Av. 1"},
            "locationMessage",
        ),
        (
            "sendContact",
            {"contact": [{"fullName": "Ana", "wuid": NUMBER, "phoneNumber": "+55 11 99999-8888", "organization": "A"}]},
            "contact",
            {"name": "Ana", "phone": NUMBER},
            "contactMessage",
        ),
        (
            "sendPoll",
            {"name": "Quando?", "selectableCount": 1, "values": ["hoje", "amanhã"]},
            "poll",
            {"question": "Quando?", "options": ["hoje", "amanhã"], "max": 1},
            "pollCreationMessage",
        ),
        (
            "sendPoll",
            {"name": "Quais?", "selectableCount": 0, "values": ["a", "b", "c"]},
            "poll",
            {"question": "Quais?", "options": ["a", "b", "c"], "max": 3},
            "pollCreationMessage",
        ),
    ],
)
async def test_other_types_as_documented(
    evolution: httpx.AsyncClient,
    database: Connection,
    shop: dict[str, Any],
    call: str,
    said: dict[str, Any],
    type_: str,
    payload: dict[str, Any],
    kind: str,
) -> None:
    answer = await evolution.post(f"/message/{call}/loja1", json={"number": NUMBER, **said})

    assert answer.status_code == 201, answer.text
    row = await stored(database)
    assert (row["type"], row["payload"]) == (type_, payload)
    assert (answer.json()["messageType"], list(answer.json()["message"])) == (kind, [kind])


async def test_a_reaction_an_edit_and_a_revocation_name_a_message_by_its_key(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    key = {"remoteJid": JID, "fromMe": True, "id": "BAE5A75CB0F39712"}

    for answer in (
        await evolution.post("/message/sendReaction/loja1", json={"key": key, "reaction": "🚀"}),
        await evolution.post("/chat/updateMessage/loja1", json={"number": NUMBER, "text": "novo", "key": key}),
        await evolution.request("DELETE", "/chat/deleteMessageForEveryone/loja1", json=key),
    ):
        assert answer.status_code == 201, answer.text

    rows = await database.fetch("SELECT type, jid, payload FROM messages ORDER BY created_at")
    assert [(row["type"], row["jid"], row["payload"]) for row in rows] == [
        ("reaction", JID, {"message_id": "BAE5A75CB0F39712", "emoji": "🚀"}),
        ("edit", JID, {"message_id": "BAE5A75CB0F39712", "text": "novo"}),
        ("revoke", JID, {"message_id": "BAE5A75CB0F39712"}),
    ]


async def test_numbers_may_be_written_as_there(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    spellings = {
        "5511999998888": JID,
        "+55 (11) 99999-8888": JID,
        "5511999998888@s.whatsapp.net": JID,
        "5511999998888@c.us": JID,
        "120363012345678901@g.us": "120363012345678901@g.us",
        "120363012345678901": "120363012345678901@g.us",
        "5511999998888-1622222222": "5511999998888-1622222222@g.us",
        "123456789@lid": "123456789@lid",
    }
    for number, jid in spellings.items():
        answer = await evolution.post("/message/sendText/loja1", json={"number": number, "text": "oi"})

        assert answer.status_code == 201, (number, answer.text)
        assert answer.json()["key"]["remoteJid"] == jid
    rows = await database.fetch("SELECT jid FROM messages ORDER BY created_at")
    assert [row["jid"] for row in rows] == list(spellings.values())


WRONG = [
    ("sendText", {"number": NUMBER}, "text"),
    ("sendText", {"text": "oi"}, "number"),
    ("sendText", {"number": "12", "text": "oi"}, "number"),
    ("sendText", {"number": NUMBER, "text": ""}, "text"),
    ("sendText", {"number": NUMBER, "text": "oi", "mentioned": ["x"]}, "mentioned"),
    ("sendText", {"number": NUMBER, "text": "oi", "mentionsEveryOne": True}, "mentionsEveryOne"),
    ("sendMedia", {"number": NUMBER, "mediatype": "image", "media": "not base64!"}, "media"),
    ("sendMedia", {"number": NUMBER, "mediatype": "ptv", "media": PNG}, "mediatype"),
    ("sendMedia", {"number": NUMBER, "mediatype": "document", "media": PNG}, "file name"),
    ("sendLocation", {"number": NUMBER, "latitude": 91, "longitude": 0}, "latitude"),
    ("sendContact", {"number": NUMBER, "contact": []}, "contact"),
    ("sendContact", {"number": NUMBER, "contact": [{"fullName": "A", "phoneNumber": "1"}]}, "phoneNumber"),
    ("sendPoll", {"number": NUMBER, "name": "?", "selectableCount": 1, "values": ["a"]}, "values"),
    ("sendList", {"number": NUMBER}, "sendList"),
    ("sendButtons", {"number": NUMBER}, "sendButtons"),
]


async def test_what_is_wrong_is_a_400_that_names_their_field_and_changes_nothing(
    evolution: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any]
) -> None:
    before = await ledger.rows()

    for call, said, names in WRONG:
        answer = await evolution.post(f"/message/{call}/loja1", json=said)

        assert answer.status_code == 400, (call, said, answer.text)
        body = answer.json()
        assert (body["status"], body["error"]) == (400, "Bad Request")
        assert isinstance(body["response"]["message"], list)
        assert any(names in message for message in body["response"]["message"]), (said, body)
    assert await ledger.rows() == before


async def test_the_same_idempotency_key_is_the_same_message(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    said = {"number": NUMBER, "text": "oi"}
    headers = {"Idempotency-Key": "order-7"}

    first = await evolution.post("/message/sendText/loja1", json=said, headers=headers)
    second = await evolution.post("/message/sendText/loja1", json=said, headers=headers)
    other = await evolution.post("/message/sendText/loja1", json={**said, "text": "outro"}, headers=headers)

    assert first.json()["key"] == second.json()["key"]
    assert await database.fetchval("SELECT count(*) FROM messages") == 1
    assert (other.status_code, other.json()["response"]["code"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_a_closed_instance_refuses_as_the_own_route_does(
    evolution: httpx.AsyncClient, api: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    await database.execute("UPDATE connections SET status = 'closed'")

    theirs = await evolution.post("/message/sendText/loja1", json={"number": NUMBER, "text": "oi"})
    ours = await api.post(
        f"/connections/{shop['id']}/send", json={"to": NUMBER, "type": "text", "payload": {"text": "oi"}}
    )

    assert (theirs.status_code, ours.status_code) == (400, 409)
    assert theirs.json()["response"]["message"] == [ours.json()["detail"]]
    assert theirs.json()["response"]["code"] == ours.json()["code"]


async def test_an_instance_may_be_called_by_its_id(evolution: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    answer = await evolution.post(f"/message/sendText/{shop['id']}", json={"number": NUMBER, "text": "oi"})

    assert answer.status_code == 201
    assert answer.json()["instanceId"] == shop["id"]


@pytest.mark.parametrize("headers", [{}, {"apikey": "wrong"}, {"apikey": "wrong", "X-API-Key": "other"}])
async def test_a_wrong_apikey_is_their_401(
    api: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any], headers: dict[str, str]
) -> None:
    before = await ledger.rows()
    async with client_of(api, EVOLUTION, headers) as stranger:
        answer = await stranger.post("/message/sendText/loja1", json={"number": NUMBER, "text": "oi"})

    assert answer.status_code == 401
    body = answer.json()
    assert (body["status"], body["error"], body["response"]["message"]) == (401, "Unauthorized", "Unauthorized")
    assert await ledger.rows() == before


async def test_what_is_not_there_is_their_404(evolution: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    nobody = await evolution.post("/message/sendText/loja9", json={"number": NUMBER, "text": "oi"})
    nowhere = await evolution.get("/group/fetchAllGroups/loja1")

    assert (nobody.status_code, nobody.json()["response"]["message"]) == (
        404,
        ['The "loja9" instance does not exist'],
    )
    assert (nowhere.status_code, nowhere.json()["response"]["message"]) == (
        404,
        ["Cannot GET /group/fetchAllGroups/loja1"],
    )
