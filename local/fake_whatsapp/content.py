"""Reads a decrypted message as the API names it: a type and its payload."""

# ruff: noqa: ANN401 - the library's protobuf classes have no static types

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from local.fake_whatsapp.media import MediaFiles, UnreadableMedia
from local.fake_whatsapp.wire_log import Content

# Small files are shown whole, so that a test can compare them; of larger ones there is a hash.
SHOWN_MEDIA_BYTES = 256 * 1024

WRAPPERS = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "editedMessage",
)
MEDIA_FIELDS = {
    "image": "imageMessage",
    "video": "videoMessage",
    "audio": "audioMessage",
    "document": "documentMessage",
    "sticker": "stickerMessage",
}
REVOKE = 0
MESSAGE_EDIT = 14


def read(message: Any, media: MediaFiles) -> Content | None:
    """The content, or None for what users never see: key distribution, history, protocol messages."""
    message = _unwrap(message)
    if message.HasField("protocolMessage"):
        return _protocol(message.protocolMessage)
    for kind, name in MEDIA_FIELDS.items():
        if message.HasField(name):
            return Content(kind, _media(kind, getattr(message, name), media))
    for name, (kind, describe) in DESCRIPTIONS.items():
        if message.HasField(name):
            return Content(kind, describe(getattr(message, name)))
    return _unknown(message)


def _unwrap(message: Any) -> Any:
    for field in WRAPPERS:
        if message.HasField(field):
            return _unwrap(getattr(message, field).message)
    return message


def _text(found: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {"text": found.text}
    if found.matchedText or found.title:
        payload["preview"] = {"url": found.matchedText, "title": found.title, "description": found.description}
    return payload | _context(found)


def _media(kind: str, found: Any, media: MediaFiles) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "url": found.URL,
        "mimetype": found.mimetype,
        "sha256": found.fileSHA256.hex(),
        "size_bytes": found.fileLength,
    }
    if kind in ("image", "video", "document") and found.caption:
        payload["caption"] = found.caption
    if kind == "document" and found.fileName:
        payload["filename"] = found.fileName
    if kind == "audio":
        payload["ptt"] = found.PTT
        if found.waveform:
            payload["waveform"] = base64.b64encode(found.waveform).decode()
    for name in ("seconds", "width", "height", "gifPlayback"):
        if value := getattr(found, name, None):
            payload[{"gifPlayback": "gif"}.get(name, name)] = value
    if found.fileLength <= SHOWN_MEDIA_BYTES:
        try:
            plaintext = media.decrypt(kind, direct_path=found.directPath, media_key=found.mediaKey)
            payload["base64"] = base64.b64encode(plaintext).decode()
        except UnreadableMedia as error:
            payload["unreadable"] = str(error)
    return payload | _context(found)


def _reaction(found: Any) -> dict[str, Any]:
    return _target(found.key) | {"emoji": found.text}


def _location(found: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {"latitude": found.degreesLatitude, "longitude": found.degreesLongitude}
    if found.name:
        payload["name"] = found.name
    if found.address:
        payload["address"] = found.address
    return payload | _context(found)


def _contact(found: Any) -> dict[str, Any]:
    number = re.search(r"waid=(\d+)", found.vcard) or re.search(r"TEL[^:\n]*:\+?([\d ()-]+)", found.vcard)
    digits = re.sub(r"\D", "", number[1]) if number else None
    return {"name": found.displayName, "phone": digits} | _context(found)


def _poll(found: Any) -> dict[str, Any]:
    options = [option.optionName for option in found.options]
    return {"question": found.name, "options": options, "max": found.selectableOptionsCount} | _context(found)


def _protocol(found: Any) -> Content | None:
    if found.type == REVOKE and found.HasField("key"):
        return Content("revoke", _target(found.key))
    if found.type == MESSAGE_EDIT:
        edited = _unwrap(found.editedMessage)
        text = edited.conversation or edited.extendedTextMessage.text
        return Content("edit", _target(found.key) | {"text": text})
    return None


def _target(key: Any) -> dict[str, Any]:
    """The message that is meant, and its writer where a group makes the key say so."""
    return {"message_id": key.ID} | ({"participant": key.participant} if key.participant else {})


def _unknown(message: Any) -> Content | None:
    hidden = {"senderKeyDistributionMessage", "messageContextInfo"}
    names = [field.name for field, _ in message.ListFields() if field.name not in hidden]
    return Content(names[0]) if names else None


def _context(found: Any) -> dict[str, Any]:
    """What the message answers and whom it mentions, when it does."""
    context: dict[str, Any] = {}
    if found.contextInfo.stanzaID:
        context["reply_to"] = found.contextInfo.stanzaID
    if found.contextInfo.mentionedJID:
        context["mentions"] = list(found.contextInfo.mentionedJID)
    return context


DESCRIPTIONS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "conversation": ("text", lambda text: {"text": text}),
    "extendedTextMessage": ("text", _text),
    "locationMessage": ("location", _location),
    "contactMessage": ("contact", _contact),
    "reactionMessage": ("reaction", _reaction),
    "pollCreationMessage": ("poll", _poll),
    "pollCreationMessageV2": ("poll", _poll),
    "pollCreationMessageV3": ("poll", _poll),
}
