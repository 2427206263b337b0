"""A message as Evolution API shows it: key, content by WhatsApp's own names, status in capitals."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from shared.domain.message import MessageStatus
from shared.webhooks.formats.occasion import Known, happened_at, own_jid, part, strings, text, without_none

S = MessageStatus

# Their words know no message that waits for another try or is in doubt: both are still on their way.
STATUSES: Final[Mapping[str, str]] = {
    S.SCHEDULED: "PENDING",
    S.QUEUED: "PENDING",
    S.PROCESSING: "PENDING",
    S.FAILED: "PENDING",
    S.UNKNOWN: "PENDING",
    S.SENT: "SERVER_ACK",
    S.DELIVERED: "DELIVERY_ACK",
    S.READ: "READ",
    S.PLAYED: "PLAYED",
    S.DLQ: "ERROR",
    S.EXPIRED: "ERROR",
    S.CANCELED: "ERROR",
}
_MEDIA: Final = frozenset({"image", "video", "audio", "document", "sticker"})

Content = dict[str, Any]


def raw_message(message: Mapping[str, Any], *, known: Mapping[str, Known], at: datetime) -> dict[str, Any]:
    """The message as `sendText` answers it and `messages.upsert` tells of it. `at` is the time that is told at last."""
    kind, content = _content(message, known)
    return {
        "key": key_of(message),
        "pushName": text(message, "push_name"),
        "status": STATUSES.get(str(message.get("status")), "PENDING"),
        "message": content,
        "contextInfo": _context(message, known),
        "messageType": kind,
        "messageTimestamp": happened_at(message, at, "wa_timestamp", "created_at"),
        "instanceId": message.get("connection_id"),
        "source": "unknown",
    }


def key_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """How their clients name a message: `id` is the caller's own, or the wire id of one that came over the wire."""
    return without_none(
        {
            "remoteJid": text(message, "jid"),
            "remoteJidAlt": _other(message, "jid", "lid"),
            "fromMe": message.get("from_me") is True,
            "id": text(message, "message_id"),
            "participant": text(message, "participant"),
            "participantAlt": _other(message, "participant", "participant_lid"),
        }
    )


def _other(message: Mapping[str, Any], name: str, alias: str) -> str | None:
    """The alias beside a JID with a number."""
    return text(message, alias) if text(message, alias) != text(message, name) else None


def key_of_meant(message: Mapping[str, Any], known: Mapping[str, Known]) -> dict[str, Any]:
    """The key of the message that this one means: a reaction, an edit, a revocation, a vote."""
    reference = text(part(message, "payload"), "message_id")
    if reference is None:
        return {"remoteJid": text(message, "jid")}
    found = known.get(reference)
    return {
        "remoteJid": text(message, "jid"),
        "fromMe": message.get("from_me") is True if found is None else found.from_me,
        "id": reference if found is None else found.message_id,
    }


def _content(message: Mapping[str, Any], known: Mapping[str, Known]) -> tuple[str, Content]:
    kind, said = str(message.get("type")), part(message, "payload")
    if kind in _MEDIA:
        # As with theirs that keeps files in S3; here it wants a key, as `mediaId` does.
        place = {"mediaUrl": said.get("url")} if "media_id" in said else {}
        return f"{kind}Message", {f"{kind}Message": _media(said), **without_none(place)}
    build = _CONTENTS.get(kind)
    if build is not None:
        return build(said)
    match kind:
        case "reaction":
            name, content = "reactionMessage", {"key": key_of_meant(message, known), "text": said.get("emoji")}
        case "poll_vote":
            name, content = (
                "pollUpdateMessage",
                without_none(
                    {
                        "pollCreationMessageKey": key_of_meant(message, known),
                        "vote": {"selectedOptions": said["options"]} if "options" in said else None,
                    }
                ),
            )
        case "edit":
            edited = {"conversation": said.get("text")}
            name, content = "editedMessage", {"key": key_of_meant(message, known), "editedMessage": edited}
        case "revoke":
            name, content = "protocolMessage", {"key": key_of_meant(message, known), "type": "REVOKE"}
        case _:
            return text(said, "kind") or "unknown", {}
    return name, {name: content}


def _text(said: Mapping[str, Any]) -> tuple[str, Content]:
    return "conversation", {"conversation": text(said, "text") or ""}


def _media(said: Mapping[str, Any]) -> Content:
    """What is known of a file. Its bytes are not in a webhook: `mediaId` is where ZapHub keeps them."""
    return without_none(
        {
            "url": None if "media_id" in said else said.get("url"),
            "mediaId": said.get("media_id"),
            "mimetype": said.get("mimetype"),
            "caption": said.get("caption"),
            "fileName": said.get("filename"),
            "fileLength": said.get("bytes"),
            "fileSha256": said.get("sha256"),
            "seconds": said.get("seconds"),
            "ptt": said.get("ptt"),
        }
    )


def _location(said: Mapping[str, Any]) -> tuple[str, Content]:
    place = {
        "degreesLatitude": said.get("latitude"),
        "degreesLongitude": said.get("longitude"),
        "name": said.get("name"),
        "address": said.get("address"),
    }
    return "locationMessage", {"locationMessage": without_none(place)}


def _contact(said: Mapping[str, Any]) -> tuple[str, Content]:
    card = {"displayName": said.get("name"), "vcard": text(said, "vcard") or _vcard(said)}
    return "contactMessage", {"contactMessage": card}


def _vcard(said: Mapping[str, Any]) -> str:
    name, phone = text(said, "name") or "", text(said, "phone") or ""
    return f"BEGIN:VCARD\nVERSION:3.0\nFN:{name}\nTEL;type=CELL;waid={phone}:+{phone}\nEND:VCARD"


def _poll(said: Mapping[str, Any]) -> tuple[str, Content]:
    poll = {
        "name": said.get("question"),
        "options": [{"optionName": one} for one in strings(said, "options")],
        "selectableOptionsCount": said.get("max", 1),
    }
    return "pollCreationMessage", {"pollCreationMessage": poll}


def _context(message: Mapping[str, Any], known: Mapping[str, Known]) -> Content | None:
    """What it replies to and whom it names; None when it does neither."""
    said = part(message, "payload")
    quoted = text(said, "reply_to") or text(message, "reply_to")
    mentions = strings(said, "mentions") or strings(message, "mentions")
    context: Content = {}
    if quoted is not None:
        context["stanzaId"] = known[quoted].message_id if quoted in known else quoted
        if quoted in known:
            context["participant"] = own_jid(message) if known[quoted].from_me else text(message, "jid")
    if mentions:
        context["mentionedJid"] = mentions
    return context or None


_CONTENTS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, Content]]]] = {
    "text": _text,
    "location": _location,
    "contact": _contact,
    "poll": _poll,
}
