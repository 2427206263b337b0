"""Turns the library's inbound events into what is journaled: a message, a receipt, or word of an undecryptable one."""

import base64
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from neonize.proto import Neonize_pb2 as envelope
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as e2e

from session_host.whatsapp.port import Inbound, Receipt, Undecryptable
from shared.domain.ids import WireId

# Any in this module: neonize ships no types, and its generated messages have attributes that no checker knows.

NUMBERS: Final = "s.whatsapp.net"
LIDS: Final = "lid"
# Stories and channels are nobody's chat: what cannot be read of them is no loss.
_NO_CHATS: Final = frozenset({"broadcast", "newsletter"})
# The lists that the phone sends by are no chats at all; of the status of contacts the connection's config decides.
_STATUS: Final = "status@broadcast"
_STATUS_OF_RECEIPT: Final = {
    envelope.Receipt.DELIVERED: "delivered",
    envelope.Receipt.READ: "read",
    envelope.Receipt.PLAYED: "played",
}
# Messages inside messages: disappearing, seen once, captioned, of an album, sent by the phone to its other devices.
_WRAPPERS: Final = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "associatedChildMessage",
    "groupMentionedMessage",
    "lottieStickerMessage",
    "spoilerMessage",
    "pollCreationMessageV4",
    "editedMessage",
)
_TOLD_OF_FILES: Final = (
    ("caption", "caption"),
    ("fileName", "filename"),
    ("PTT", "ptt"),
    ("seconds", "seconds"),
    ("width", "width"),
    ("height", "height"),
    ("gifPlayback", "gif"),
)
# Keys and settings that devices exchange among themselves.
_HOUSEKEEPING: Final = frozenset({"senderKeyDistributionMessage", "messageContextInfo", "protocolMessage"})
_REVOKE: Final = e2e.ProtocolMessage.REVOKE
_EDIT: Final = e2e.ProtocolMessage.MESSAGE_EDIT


def message(event: Any) -> Inbound | None:  # noqa: ANN401 - neonize ships no types
    """A message event as it is journaled, or None for what devices say among themselves."""
    info, source = event.Info, event.Info.MessageSource
    if source.Chat.Server == "broadcast" and text_of(source.Chat) != _STATUS:
        return None
    found = _content(event.Message)
    if found is None:
        return None
    type_, content = found
    if type_ == "poll_vote":
        content["vote"] = _sealed_vote(_unwrapped(event.Message).pollUpdateMessage, source)
    return Inbound(**_envelope(info), type=type_, content=content)


def receipt(event: Any) -> Receipt | None:  # noqa: ANN401 - neonize ships no types
    """A receipt that moves a message of ours forward, or None: our own devices' and retries say nothing about it."""
    status = _STATUS_OF_RECEIPT.get(event.Type)
    if status is None or event.MessageSource.IsFromMe:
        return None
    wire_ids = tuple(WireId(wire_id) for wire_id in event.MessageIDs)
    return Receipt(wire_ids=wire_ids, status=status, timestamp_ms=milliseconds(event.Timestamp)) if wire_ids else None


def undecryptable(event: Any) -> Undecryptable | None:  # noqa: ANN401 - neonize ships no types
    """A message that could not be decrypted."""
    if event.Info.MessageSource.Chat.Server in _NO_CHATS:
        return None
    return Undecryptable(**_envelope(event.Info))


def text_of(jid: Any) -> str:  # noqa: ANN401 - neonize ships no types
    """`user@server`, without a device."""
    return f"{jid.User.partition(':')[0]}@{jid.Server}"


def device_text_of(jid: Any) -> str:  # noqa: ANN401 - neonize ships no types
    """`user:device@server`, as the device store writes it."""
    user = jid.User if ":" in jid.User or not jid.Device else f"{jid.User}:{jid.Device}"
    return f"{user}@{jid.Server}"


def milliseconds(value: int) -> int:
    """The library gives seconds in some events and milliseconds in others; seconds pass this bound in the year 5138."""
    return value if abs(value) >= 100_000_000_000 else value * 1000  # noqa: PLR2004 - explained above


def _envelope(info: Any) -> dict[str, Any]:  # noqa: ANN401 - neonize ships no types
    source = info.MessageSource
    chat, alias = _chat(source)
    sender = _number(source.Sender, source.SenderAlt)
    return {
        "wire_id": WireId(info.ID),
        "chat": chat,
        "chat_alias": alias,
        "sender": sender,
        "sender_alias": next((text_of(jid) for jid in (source.Sender, source.SenderAlt) if jid.Server == LIDS), None),
        "wire_sender": text_of(source.Sender),
        "participant": sender if source.IsGroup else None,
        "push_name": info.Pushname or None,
        "from_me": source.IsFromMe,
        "timestamp_ms": milliseconds(info.Timestamp),
    }


def _chat(source: Any) -> tuple[str, str | None]:  # noqa: ANN401 - neonize ships no types
    """The chat by its phone number where that is known, and the `@lid` under which it is known too."""
    other = source.RecipientAlt if source.IsFromMe else source.SenderAlt
    if source.IsGroup or not other.User:
        return text_of(source.Chat), None
    if source.Chat.Server == LIDS and other.Server == NUMBERS:
        return text_of(other), text_of(source.Chat)
    if source.Chat.Server == NUMBERS and other.Server == LIDS:
        return text_of(source.Chat), text_of(other)
    return text_of(source.Chat), None


def _number(jid: Any, other: Any) -> str:  # noqa: ANN401 - neonize ships no types
    return text_of(other) if jid.Server == LIDS and other.Server == NUMBERS else text_of(jid)


def _content(found: Any) -> tuple[str, dict[str, Any]] | None:  # noqa: ANN401 - neonize ships no types
    inner = _unwrapped(found)
    if inner.HasField("protocolMessage"):
        return _of_protocol(inner.protocolMessage)
    for field, read in _READERS.items():
        if inner.HasField(field):
            return read(getattr(inner, field))
    named = [field.name for field, _ in inner.ListFields() if field.name not in _HOUSEKEEPING]
    return ("unsupported", {"kind": named[0]}) if named else None


def _unwrapped(found: Any) -> Any:  # noqa: ANN401 - neonize ships no types
    while wrapper := next((name for name in _WRAPPERS if found.HasField(name)), None):
        found = getattr(found, wrapper).message
    return found


def _of_protocol(found: Any) -> tuple[str, dict[str, Any]] | None:  # noqa: ANN401 - neonize ships no types
    if found.type == _REVOKE and found.HasField("key"):
        return "revoke", {"message_id": found.key.ID}
    if found.type == _EDIT:
        edited = _content(found.editedMessage)
        content = edited[1] if edited else {}
        return "edit", {"message_id": found.key.ID, "text": content.get("text", content.get("caption", ""))}
    return None


def _text(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    return "text", {"text": found, "reply_to": None}


def _extended(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    return "text", {"text": found.text, **_context(found)}


def _context(found: Any) -> dict[str, Any]:  # noqa: ANN401 - neonize ships no types
    context = found.contextInfo
    mentions = list(context.mentionedJID)
    return {"reply_to": context.stanzaID or None, **({"mentions": mentions} if mentions else {})}


def _media(type_: str) -> Callable[[Any], tuple[str, dict[str, Any]]]:
    """What there is to know about a file without fetching it, and what is needed to fetch it later."""

    def read(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
        content = {
            "mimetype": found.mimetype or None,
            "bytes": found.fileLength or None,
            "sha256": _base64(found.fileSHA256) or None,
            **_context(found),
        }
        for field, name in _TOLD_OF_FILES:
            if getattr(found, field, None):
                content[name] = getattr(found, field)
        if getattr(found, "waveform", b""):
            content["waveform"] = _base64(found.waveform)
        content["source"] = {
            "kind": type_,
            "direct_path": found.directPath,
            "media_key": _base64(found.mediaKey),
            "sha256": _base64(found.fileSHA256),
            "enc_sha256": _base64(found.fileEncSHA256),
            "size": found.fileLength,
        }
        return type_, content

    return read


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _location(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    content = {"latitude": found.degreesLatitude, "longitude": found.degreesLongitude}
    return "location", {**content, "name": found.name or None, "address": found.address or None}


def _live_location(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    content = {"latitude": found.degreesLatitude, "longitude": found.degreesLongitude}
    return "location", {**content, "name": found.caption or None, "address": None, "live": True}


def _button(text: str, *chosen: str) -> Callable[[Any], tuple[str, dict[str, Any]]]:
    """A tap on a button or a row of a list: its words, and the id that its sender gave it."""

    def read(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
        content = {"text": getattr(found, text), "button_id": reduce(getattr, chosen, found)}
        return "text", {**content, **_context(found)}

    return read


def _contact(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    # The library gives text that is no UTF-8 as bytes.
    vcard = found.vcard if isinstance(found.vcard, str) else found.vcard.decode(errors="replace")
    phone = next((line.rpartition(":")[2] for line in vcard.splitlines() if line.startswith(("TEL", "item1.TEL"))), "")
    digits = "".join(character for character in phone if character.isdigit())
    return "contact", {"name": found.displayName, "phone": digits or None, "vcard": vcard}


def _reaction(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    return "reaction", {"message_id": found.key.ID, "emoji": found.text}


def _poll(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    options = [option.optionName for option in found.options]
    return "poll", {"question": found.name, "options": options, "max": found.selectableOptionsCount}


def _poll_vote(found: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - neonize ships no types
    return "poll_vote", {"message_id": found.pollCreationMessageKey.ID}


def _sealed_vote(found: Any, source: Any) -> dict[str, Any]:  # noqa: ANN401 - neonize ships no types
    """The vote as it came, with every JID that its key may be made of (session_host/votes.py opens it)."""
    key = found.pollCreationMessageKey
    voters = [text_of(jid) for jid in (source.Sender, source.SenderAlt) if jid.User]
    author = key.participant or key.remoteJID
    return {
        "poll": key.ID,
        "payload": base64.b64encode(found.vote.encPayload).decode(),
        "iv": base64.b64encode(found.vote.encIV).decode(),
        "voters": voters,
        "writers": voters if key.fromMe else [author] if author else [],
    }


_READERS: Final[dict[str, Callable[[Any], tuple[str, dict[str, Any]]]]] = {
    "conversation": _text,
    "extendedTextMessage": _extended,
    "imageMessage": _media("image"),
    "videoMessage": _media("video"),
    "audioMessage": _media("audio"),
    "documentMessage": _media("document"),
    "stickerMessage": _media("sticker"),
    "ptvMessage": _media("video"),
    "locationMessage": _location,
    "liveLocationMessage": _live_location,
    "buttonsResponseMessage": _button("selectedDisplayText", "selectedButtonID"),
    "templateButtonReplyMessage": _button("selectedDisplayText", "selectedID"),
    "listResponseMessage": _button("title", "singleSelectReply", "selectedRowID"),
    "contactMessage": _contact,
    "reactionMessage": _reaction,
    "pollCreationMessage": _poll,
    "pollCreationMessageV2": _poll,
    "pollCreationMessageV3": _poll,
    "pollUpdateMessage": _poll_vote,
}
