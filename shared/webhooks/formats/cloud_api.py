"""The Cloud API's `messages` webhook: what came in, and what became of what was sent.

It has no words for a connection's state, for groups as ZapHub knows them, for what the phone itself sent, nor for edits
and revocations: nothing is told of these.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.domain.jid import Server
from shared.webhooks.formats.cloud_message import content_of
from shared.webhooks.formats.occasion import Occasion, dump, happened_at, number_of, own_jid, part, text, without_none
from shared.webhooks.formats.wamid import wamid

_INBOUND: Final = frozenset({"message.received", "message.reaction", "message.poll_vote"})
_STATUSES: Final[Mapping[str, str]] = {
    "message.sent": "sent",
    "message.delivered": "delivered",
    "message.read": "read",
    "message.played": "played",
    "message.dlq": "failed",
    "message.expired": "failed",
    "message.canceled": "failed",
}
_TIME_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "message.sent": ("sent_at",),
    "message.delivered": ("delivered_at",),
    "message.read": ("read_at",),
    "message.played": ("played_at",),
}
_ERROR_PAGE: Final = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
# Their number and title for a code of ours; what has no equal is their general error, and `details` says what it was.
_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "NUMBER_NOT_ON_WHATSAPP": (131026, "Message undeliverable"),
    "RATE_OVERLIMIT": (130429, "Rate limit hit"),
    "CHAT_RESTRICTED": (131048, "Spam rate limit hit"),
    "CONNECTION_BANNED": (131031, "Account has been locked"),
    "CONNECTION_LOGGED_OUT": (133010, "Phone number not registered"),
    "MEDIA_FETCH_FAILED": (131053, "Media upload error"),
    "MEDIA_TOO_LARGE": (131053, "Media upload error"),
}
_GENERAL: Final = (131000, "Something went wrong")


def body_of(occasion: Occasion) -> bytes | None:
    """The event in their words; None when they have none for it."""
    message = occasion.payload
    if (text(message, "jid") or "").endswith(f"@{Server.GROUP}"):
        return None
    if occasion.type in _INBOUND:
        return _envelope(occasion, _received(occasion))
    if occasion.type in _STATUSES and message.get("source") == "api":
        return _envelope(occasion, {"statuses": [_status(occasion)]})
    return None


def error_of(code: str) -> tuple[int, str]:
    """Their number and title for an error code of ours."""
    return _ERRORS.get(code, _GENERAL)


def _envelope(occasion: Occasion, value: Mapping[str, Any]) -> bytes:
    metadata = {
        "display_phone_number": number_of(own_jid(occasion.payload)),
        "phone_number_id": occasion.name,
    }
    change = {"value": {"messaging_product": "whatsapp", "metadata": metadata, **value}, "field": "messages"}
    # A business account is theirs; what a client tells its accounts apart by is here the connection.
    entry = {"id": occasion.name, "changes": [change]}
    return dump({"object": "whatsapp_business_account", "entry": [entry]})


def _received(occasion: Occasion) -> dict[str, Any]:
    message = occasion.payload
    sender = number_of(text(message, "from"))
    found = {
        "context": _context(occasion),
        "from": sender,
        "id": wamid(str(message.get("id"))),
        "timestamp": str(happened_at(message, occasion.at, "wa_timestamp", "created_at")),
        **content_of(message, occasion.known),
    }
    contact = {"profile": {"name": text(message, "push_name") or sender}, "wa_id": sender}
    return {"contacts": [contact], "messages": [without_none(found)]}


def _context(occasion: Occasion) -> dict[str, Any] | None:
    """What a message replies to."""
    quoted = text(part(occasion.payload, "payload"), "reply_to")
    if quoted is None:
        return None
    known = occasion.known.get(quoted)
    if known is None:
        return {"id": wamid(quoted)}
    writer = own_jid(occasion.payload) if known.from_me else text(occasion.payload, "from")
    return without_none({"from": number_of(writer), "id": wamid(known.id)})


def _status(occasion: Occasion) -> dict[str, Any]:
    message, status = occasion.payload, _STATUSES[occasion.type]
    return without_none(
        {
            "id": wamid(str(message.get("id"))),
            "status": status,
            "timestamp": str(happened_at(message, occasion.at, *_TIME_OF.get(occasion.type, ()))),
            "recipient_id": number_of(text(message, "jid")),
            "biz_opaque_callback_data": text(part(message, "metadata"), "biz_opaque_callback_data"),
            "errors": [_error(occasion)] if status == "failed" else None,
        }
    )


def _error(occasion: Occasion) -> dict[str, Any]:
    error = part(occasion.payload, "error")
    number, title = error_of(text(error, "code") or "")
    ended = {"message.expired": "It was not sent in time.", "message.canceled": "It was canceled before it was sent."}
    details = text(error, "detail") or ended.get(occasion.type, "ZapHub gave it up.")
    return {
        "code": number,
        "title": title,
        "message": title,
        "error_data": {"details": details},
        "href": _ERROR_PAGE,
    }
