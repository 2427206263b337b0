"""Evolution API's events, held against the shapes of its 2.3 line."""

import json
from typing import Any

import pytest

from shared.domain.session import SessionStatus
from shared.webhooks.formats import evolution
from shared.webhooks.formats.occasion import Known
from tests.unit.compat.occasions import CONNECTION, CONTACT, MESSAGE, OWN, UNIX, connection, message, occasion, sent


def told(
    type_: str, payload: Any, *, subscribed: tuple[str, ...] = ("*",), known: dict[str, Known] | None = None
) -> Any:
    body = evolution.body_of(occasion(type_, payload, known=known), subscribed=subscribed)
    return None if body is None else json.loads(body)


def test_a_message_that_came_in_is_messages_upsert() -> None:
    assert told("message.received", message()) == {
        "event": "messages.upsert",
        "instance": "loja1",
        "data": {
            "key": {"remoteJid": CONTACT, "fromMe": False, "id": "3EB0AAAA"},
            "pushName": "Ana",
            "status": "DELIVERY_ACK",
            "message": {"conversation": "olá"},
            "contextInfo": None,
            "messageType": "conversation",
            "messageTimestamp": UNIX,
            "instanceId": str(CONNECTION),
            "source": "unknown",
        },
        "destination": "https://example.com/hook",
        "date_time": "2026-01-31T12:00:00.000Z",
        "sender": OWN,
        "server_url": None,
        "apikey": None,
    }


def test_in_a_group_the_key_names_who_wrote() -> None:
    group = "120363012345678901@g.us"

    key = told("message.received", message(jid=group, participant=CONTACT))["data"]["key"]

    assert key == {"remoteJid": group, "fromMe": False, "id": "3EB0AAAA", "participant": CONTACT}


@pytest.mark.parametrize(
    ("type_", "payload", "kind", "content"),
    [
        (
            "image",
            {"mimetype": "image/jpeg", "bytes": 9, "sha256": "aGk=", "caption": "foto", "media_id": "m-1"},
            "imageMessage",
            {"mimetype": "image/jpeg", "fileLength": 9, "fileSha256": "aGk=", "caption": "foto", "mediaId": "m-1"},
        ),
        (
            "audio",
            {"mimetype": "audio/ogg; codecs=opus", "ptt": True, "seconds": 3},
            "audioMessage",
            {"mimetype": "audio/ogg; codecs=opus", "ptt": True, "seconds": 3},
        ),
        ("document", {"filename": "nota.pdf"}, "documentMessage", {"fileName": "nota.pdf"}),
        (
            "location",
            {"latitude": -23.5, "longitude": -46.6, "name": "Loja", "address": None},
            "locationMessage",
            {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Loja"},
        ),
        (
            "contact",
            {"name": "Bia", "phone": "5511900000000", "vcard": "BEGIN:VCARD"},
            "contactMessage",
            {"displayName": "Bia", "vcard": "BEGIN:VCARD"},
        ),
        (
            "poll",
            {"question": "Quando?", "options": ["hoje", "amanhã"], "max": 1},
            "pollCreationMessage",
            {
                "name": "Quando?",
                "options": [{"optionName": "hoje"}, {"optionName": "amanhã"}],
                "selectableOptionsCount": 1,
            },
        ),
    ],
)
def test_each_type_has_whatsapps_own_name(
    type_: str, payload: dict[str, Any], kind: str, content: dict[str, Any]
) -> None:
    data = told("message.received", message(type=type_, payload=payload))["data"]

    assert (data["messageType"], data["message"]) == (kind, {kind: content})


def test_a_file_that_came_in_is_where_zaphub_keeps_it() -> None:
    said = {"mimetype": "image/jpeg", "media_id": "m-1", "media_state": "pending", "url": "https://z.example/media/m-1"}

    content = told("message.received", message(type="image", payload=said))["data"]["message"]

    assert content == {
        "imageMessage": {"mimetype": "image/jpeg", "mediaId": "m-1"},
        "mediaUrl": "https://z.example/media/m-1",
    }


def test_what_names_another_message_names_it_as_it_was_answered() -> None:
    ours = {"WIRE-1": Known(id=MESSAGE, message_id="order-77", from_me=True)}
    said = {"text": "sim", "reply_to": "WIRE-1"}
    thumb = {"message_id": "WIRE-1", "emoji": "👍"}

    reply = told("message.received", message(payload=said), known=ours)["data"]
    reaction = told("message.reaction", message(type="reaction", payload=thumb), known=ours)["data"]

    assert reply["contextInfo"] == {"stanzaId": "order-77", "participant": OWN}
    assert reaction["messageType"] == "reactionMessage"
    assert reaction["message"]["reactionMessage"] == {
        "key": {"remoteJid": CONTACT, "fromMe": True, "id": "order-77"},
        "text": "👍",
    }


@pytest.mark.parametrize(
    ("type_", "status", "theirs"),
    [
        ("message.sent", "sent", "SERVER_ACK"),
        ("message.delivered", "delivered", "DELIVERY_ACK"),
        ("message.read", "read", "READ"),
        ("message.played", "played", "PLAYED"),
        ("message.dlq", "dlq", "ERROR"),
        ("message.expired", "expired", "ERROR"),
        ("message.canceled", "canceled", "ERROR"),
    ],
)
def test_what_becomes_of_a_send_is_messages_update(type_: str, status: str, theirs: str) -> None:
    body = told(type_, sent(status=status))

    assert body["event"] == "messages.update"
    assert body["sender"] == OWN
    assert body["data"] == {
        "messageId": MESSAGE,
        "keyId": MESSAGE,
        "remoteJid": CONTACT,
        "fromMe": True,
        "status": theirs,
        "instanceId": str(CONNECTION),
    }


def test_an_accepted_send_is_send_message_and_what_the_phone_sent_is_messages_upsert() -> None:
    accepted = told("message.queued", sent(status="queued", wa_timestamp=None))
    echoed = told("message.sent", sent(source="phone", message_id="3EB0BBBB"))

    assert (accepted["event"], accepted["data"]["status"]) == ("send.message", "PENDING")
    assert (echoed["event"], echoed["data"]["key"]["fromMe"]) == ("messages.upsert", True)


def test_edits_and_revocations_name_the_message_they_mean() -> None:
    edited = told("message.edited", message(type="edit", payload={"message_id": "3EB0CCCC", "text": "novo"}))
    revoked = told("message.revoked", message(type="revoke", payload={"message_id": "3EB0CCCC"}))

    key = {"remoteJid": CONTACT, "fromMe": False, "id": "3EB0CCCC"}
    assert edited["event"] == "messages.edited"
    assert edited["data"]["key"] == key
    assert edited["data"]["editedMessage"] == {"conversation": "novo"}
    assert (revoked["event"], revoked["data"]) == ("messages.delete", key)


@pytest.mark.parametrize("status", list(SessionStatus))
def test_every_status_of_a_connection_is_one_of_their_three_states(status: SessionStatus) -> None:
    body = told("session.status", connection(status=status.value))

    assert body["event"] == "connection.update"
    assert body["data"]["state"] == evolution.state_of(status) in {"open", "connecting", "close"}
    assert (body["data"]["state"] == "open") is (status is SessionStatus.CONNECTED)
    assert body["data"]["statusReason"] != 0


def test_an_open_connection_says_who_it_is() -> None:
    assert told("session.status", connection())["data"] == {
        "instance": "loja1",
        "state": "open",
        "statusReason": 200,
        "wuid": OWN,
        "profileName": "Loja",
        "profilePictureUrl": None,
    }


def test_a_qr_code_comes_with_its_image() -> None:
    qrcode = told("session.qr", connection(status="qr_pending", qr="2@abc"))["data"]["qrcode"]

    assert (qrcode["instance"], qrcode["code"], qrcode["pairingCode"]) == ("loja1", "2@abc", None)
    assert qrcode["base64"].startswith("data:image/png;base64,iVBOR")


def test_a_pairing_code_comes_without_one() -> None:
    qrcode = told("session.pair_code", connection(status="qr_pending", pair_code="ABCD-1234"))["data"]["qrcode"]

    assert qrcode == {"instance": "loja1", "pairingCode": "ABCD1234", "code": None, "base64": None}


@pytest.mark.parametrize("type_", ["session.connected", "message.failed", "message.unknown", "queue.backlog"])
def test_what_they_have_no_words_for_is_not_told(type_: str) -> None:
    assert told(type_, sent()) is None


def test_who_lists_names_of_theirs_gets_no_others() -> None:
    upserts = ("message.received", "message.sent", "evolution.messages_upsert")

    assert told("message.received", message(), subscribed=upserts) is not None
    assert told("message.sent", sent(source="phone"), subscribed=upserts) is not None
    assert told("message.sent", sent(), subscribed=upserts) is None
