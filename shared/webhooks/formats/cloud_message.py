"""What a message says, as the Cloud API's webhook shows it: its type, and an object of that name."""

from collections.abc import Mapping
from typing import Any, Final

from shared.webhooks.formats.occasion import Known, part, text, without_none
from shared.webhooks.formats.wamid import wamid

_MEDIA: Final = frozenset({"image", "video", "audio", "document", "sticker"})
_UNSUPPORTED: Final = {
    "code": 131051,
    "title": "Message type unknown",
    "message": "Message type unknown",
    "error_data": {"details": "Message type is currently not supported."},
}


def content_of(message: Mapping[str, Any], known: Mapping[str, Known]) -> dict[str, Any]:
    """`type` and its object; `unsupported` with their error for what they have no type for, such as a poll."""
    kind, said = str(message.get("type")), part(message, "payload")
    if kind in _MEDIA:
        return {"type": kind, kind: _media(kind, said)}
    match kind:
        case "text":
            return {"type": kind, kind: {"body": text(said, "text") or ""}}
        case "location":
            names = ("latitude", "longitude", "name", "address")
            return {"type": kind, kind: without_none({name: said.get(name) for name in names})}
        case "contact":
            return {"type": "contacts", "contacts": [_contact(said)]}
        case "reaction":
            return {"type": kind, kind: _reaction(said, known)}
        case _:
            return {"type": "unsupported", "errors": [_UNSUPPORTED]}


def _media(kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """`id` is what `GET /media/{id}` takes, once the file has been fetched."""
    found = {
        "caption": said.get("caption"),
        "filename": said.get("filename"),
        "mime_type": said.get("mimetype"),
        "sha256": said.get("sha256"),
        "id": said.get("media_id"),
        "voice": said.get("ptt") is True if kind == "audio" else None,
    }
    return without_none(found)


def _contact(said: Mapping[str, Any]) -> dict[str, Any]:
    name, phone = text(said, "name") or "", text(said, "phone")
    phones = [] if phone is None else [{"phone": f"+{phone}", "wa_id": phone, "type": "CELL"}]
    return {"name": {"formatted_name": name, "first_name": name}, "phones": phones}


def _reaction(said: Mapping[str, Any], known: Mapping[str, Known]) -> dict[str, Any]:
    """Without an emoji it is taken back."""
    reference = text(said, "message_id") or ""
    name = known[reference].id if reference in known else reference
    return without_none({"message_id": wamid(name), "emoji": text(said, "emoji")})
