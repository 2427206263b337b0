"""Evolution API's events: which of ours each one tells, and its envelope. No key and no secret is ever in one.

`apikey` is theirs and always null here: their users read it only to call back, and they have a key.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.domain.session import SessionStatus
from shared.webhooks.formats.evolution_message import STATUSES, key_of, key_of_meant, raw_message
from shared.webhooks.formats.occasion import Occasion, dump, happened_at, own_jid, part, rfc3339, text, without_none

# Which of our events an event of theirs may come from. Those of theirs that are not here never come.
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "QRCODE_UPDATED": ("session.qr", "session.pair_code"),
    "CONNECTION_UPDATE": ("session.status",),
    "MESSAGES_UPSERT": ("message.received", "message.reaction", "message.poll_vote", "message.sent"),
    "MESSAGES_EDITED": ("message.edited",),
    "MESSAGES_DELETE": ("message.revoked",),
    "SEND_MESSAGE": ("message.queued",),
    "MESSAGES_UPDATE": (
        "message.sent",
        "message.delivered",
        "message.read",
        "message.played",
        "message.dlq",
        "message.expired",
        "message.canceled",
    ),
}
# An endpoint that lists names of theirs among its `events`, as `evolution.messages_upsert`, gets no others of theirs.
CATEGORY: Final = "evolution"

_QR_SCALE: Final = 8  # pixels of a module
_MAX_QR_BYTES: Final = 2000  # WhatsApp's have some 250; a QR code holds no more than 2,953

_S = SessionStatus
_STATES: Final[Mapping[str, tuple[str, int]]] = {
    _S.INITIALIZING: ("connecting", 200),
    _S.QR_PENDING: ("connecting", 200),
    _S.PASSKEY_REQUIRED: ("connecting", 200),
    _S.CONNECTING: ("connecting", 200),
    _S.CONNECTED: ("open", 200),
    # The host connects again by itself.
    _S.DISCONNECTED: ("connecting", 428),
    _S.LOGGED_OUT: ("close", 401),
    _S.REPLACED: ("close", 440),
    _S.BANNED: ("close", 403),
    _S.FAILED: ("close", 408),
    _S.CLOSED: ("close", 428),
}


def body_of(occasion: Occasion, *, subscribed: Sequence[str]) -> bytes | None:
    """The event in their words; None when they have none for it, or `subscribed` does not name theirs."""
    told = _told(occasion)
    if told is None:
        return None
    event, data = told
    names = {one for one in subscribed if one.startswith(f"{CATEGORY}.")}
    if names and f"{CATEGORY}.{event.replace('.', '_')}" not in names:
        return None
    payload = occasion.payload
    return dump(
        {
            "event": event,
            "instance": occasion.name,
            "data": data,
            "destination": occasion.url,
            "date_time": rfc3339(occasion.at),
            "sender": own_jid(payload) if occasion.type.startswith("message.") else text(payload, "jid"),
            "server_url": None,
            "apikey": None,
        }
    )


def state_of(status: str) -> str:
    """`open`, `connecting` or `close`."""
    return _STATES.get(status, ("close", 0))[0]


def qr_image(code: str) -> str:
    """The QR code as a data URL."""
    # Here, as only a pairing draws one.
    import segno  # noqa: PLC0415

    image = io.BytesIO()
    segno.make(code, error="l", micro=False).save(image, kind="png", scale=_QR_SCALE)
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"


def pairing_code(code: str) -> str:
    """The code to type, as they write it: `ABCD1234`, not `ABCD-1234`."""
    return code.replace("-", "")


def _told(occasion: Occasion) -> tuple[str, dict[str, Any]] | None:
    payload = occasion.payload
    match occasion.type:
        case "message.received" | "message.reaction" | "message.poll_vote":
            return "messages.upsert", raw_message(payload, known=occasion.known, at=occasion.at)
        case "message.sent" if payload.get("source") == "phone":
            return "messages.upsert", raw_message(payload, known=occasion.known, at=occasion.at)
        case "message.queued":
            return "send.message", raw_message(payload, known={}, at=occasion.at)
        case type_ if type_ in SOURCES["MESSAGES_UPDATE"]:
            return "messages.update", _update(payload)
        case "message.edited":
            return "messages.edited", _edit(occasion)
        case "message.revoked":
            return "messages.delete", {**key_of_meant(payload, occasion.known), **_participant(payload)}
        case "session.status":
            return "connection.update", _connection(occasion)
        case "session.qr" | "session.pair_code":
            return "qrcode.updated", {"qrcode": _qrcode(occasion)}
        case _:
            return None


def _update(message: Mapping[str, Any]) -> dict[str, Any]:
    key = key_of(message)
    return without_none(
        {
            "messageId": message.get("id"),
            "keyId": key.get("id"),
            "remoteJid": key.get("remoteJid"),
            "fromMe": key["fromMe"],
            "participant": key.get("participant"),
            "status": STATUSES.get(str(message.get("status")), "PENDING"),
            "instanceId": message.get("connection_id"),
        }
    )


def _edit(occasion: Occasion) -> dict[str, Any]:
    message = occasion.payload
    return {
        "key": key_of_meant(message, occasion.known),
        "type": "MESSAGE_EDIT",
        "editedMessage": {"conversation": text(part(message, "payload"), "text") or ""},
        "timestampMs": str(happened_at(message, occasion.at, "wa_timestamp", "created_at") * 1000),
    }


def _participant(message: Mapping[str, Any]) -> dict[str, Any]:
    return without_none({"participant": text(message, "participant")})


def _connection(occasion: Occasion) -> dict[str, Any]:
    state, reason = _STATES.get(str(occasion.payload.get("status")), ("close", 0))
    said = {"instance": occasion.name, "state": state, "statusReason": reason}
    if state != "open":
        return said
    connection = occasion.payload
    return {
        **said,
        "wuid": text(connection, "jid"),
        "profileName": text(connection, "push_name"),
        "profilePictureUrl": None,
    }


def _qrcode(occasion: Occasion) -> dict[str, Any]:
    code, typed = text(occasion.payload, "qr"), text(occasion.payload, "pair_code")
    return {
        "instance": occasion.name,
        "pairingCode": None if typed is None else pairing_code(typed),
        "code": code,
        "base64": None if code is None or len(code.encode()) > _MAX_QR_BYTES else qr_image(code),
    }
