"""Writes the message that a contact sends, from a type and payload of the API."""

# ruff: noqa: ANN401 - the library's protobuf classes have no static types

from __future__ import annotations

import base64
import binascii
import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from local.fake_whatsapp import polls
from local.fake_whatsapp.media import MediaFiles
from local.fake_whatsapp.phones import phone_jid
from local.fake_whatsapp.protocol.protos import Message

MESSAGE_EDIT = 14
REVOKE = 0
MIMETYPES = {
    "image": "image/png",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
    "sticker": "image/webp",
}

Text = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPayload(_Strict):
    """`reply_to` is a wire id of the session's, `mentions` are phones."""

    text: Text
    reply_to: str | None = None
    mentions: list[Annotated[str, StringConstraints(pattern=r"^\d{5,20}$")]] = []


class MediaPayload(_Strict):
    """The file itself comes as base64: a fake contact fetches nothing."""

    base64: str
    caption: str = ""
    filename: str = ""
    mimetype: str | None = None
    ptt: bool = False

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.base64)

    @model_validator(mode="after")
    def _is_base64(self) -> MediaPayload:
        try:
            base64.b64decode(self.base64, validate=True)
        except binascii.Error as error:
            raise ValueError("base64 is not base64") from error
        return self


class LocationPayload(_Strict):
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    name: str = ""
    address: str = ""


class ContactPayload(_Strict):
    name: Text
    phone: Annotated[str, StringConstraints(pattern=r"^\+?\d{5,20}$")]


class ReactionPayload(_Strict):
    """An empty emoji takes the reaction back."""

    message_id: Text
    emoji: str


class PollPayload(_Strict):
    question: Text
    options: Annotated[list[Text], Field(min_length=2, max_length=12)]
    max: Annotated[int, Field(ge=0, le=12)] = 1


class PollVotePayload(_Strict):
    """A vote in a poll of the session; no option takes an earlier vote back."""

    message_id: Text
    options: Annotated[list[Text], Field(max_length=12)]


class EditPayload(_Strict):
    message_id: Text
    text: Text


class RevokePayload(_Strict):
    message_id: Text


Payload = (
    TextPayload
    | MediaPayload
    | LocationPayload
    | ContactPayload
    | ReactionPayload
    | PollPayload
    | PollVotePayload
    | EditPayload
    | RevokePayload
)
Type = Literal[
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contact",
    "reaction",
    "poll",
    "poll_vote",
    "edit",
    "revoke",
]
PAYLOADS: dict[str, TypeAdapter[Any]] = {
    "text": TypeAdapter(TextPayload),
    **dict.fromkeys(MIMETYPES, TypeAdapter(MediaPayload)),
    "location": TypeAdapter(LocationPayload),
    "contact": TypeAdapter(ContactPayload),
    "reaction": TypeAdapter(ReactionPayload),
    "poll": TypeAdapter(PollPayload),
    "poll_vote": TypeAdapter(PollVotePayload),
    "edit": TypeAdapter(EditPayload),
    "revoke": TypeAdapter(RevokePayload),
}


def parse_payload(kind: Type, payload: object) -> Payload:
    """The payload of that type; raises pydantic's ValidationError."""
    parsed: Payload = PAYLOADS[kind].validate_python(payload)
    return parsed


def compose(
    kind: Type,
    payload: Payload,
    *,
    contact: str,
    session_phone: str,
    media: MediaFiles,
    now_s: float,
    group: str | None = None,
    poll_secret: bytes = b"",
) -> bytes:
    """The serialized message; media is encrypted and stored for download, so call it in a thread.

    `group` is the chat where it is not the contact's own; `poll_secret` that of the poll which a vote is for.
    """
    message = Message()
    match payload:
        case TextPayload():
            _text(message, payload, author=session_phone)
        case MediaPayload():
            _media(message, kind, payload, media)
        case LocationPayload():
            found = message.locationMessage
            found.degreesLatitude, found.degreesLongitude = payload.latitude, payload.longitude
            found.name, found.address = payload.name, payload.address
        case ContactPayload():
            message.contactMessage.displayName = payload.name
            message.contactMessage.vcard = _vcard(payload)
        case PollPayload():
            _poll(message, payload)
        case PollVotePayload():
            message = polls.vote(
                poll=payload.message_id,
                secret=poll_secret,
                options=payload.options,
                contact=contact,
                session_phone=session_phone,
                now_s=now_s,
                group=group,
            )
        case ReactionPayload() | EditPayload() | RevokePayload():
            _mean_another(message, payload, chat=group or contact, session_phone=session_phone, now_s=now_s)
    serialized: bytes = message.SerializeToString()
    return serialized


def _poll(message: Any, payload: PollPayload) -> None:
    message.pollCreationMessage.name = payload.question
    message.pollCreationMessage.selectableOptionsCount = payload.max
    for option in payload.options:
        message.pollCreationMessage.options.add(optionName=option)
    # Votes are encrypted with a key that follows from this secret.
    message.messageContextInfo.messageSecret = os.urandom(32)


def _mean_another(
    message: Any,
    payload: ReactionPayload | EditPayload | RevokePayload,
    *,
    chat: str,
    session_phone: str,
    now_s: float,
) -> None:
    match payload:
        case ReactionPayload():
            # The contact reacts to what the session wrote.
            is_group = "@" in chat
            key = message.reactionMessage.key
            _key(key, chat if is_group else session_phone, payload.message_id, from_me=False)
            if is_group:
                key.participant = phone_jid(session_phone)
            message.reactionMessage.text = payload.emoji
            message.reactionMessage.senderTimestampMS = int(now_s * 1000)
        case EditPayload():
            protocol = message.protocolMessage
            protocol.type = MESSAGE_EDIT
            protocol.timestampMS = int(now_s * 1000)
            _key(protocol.key, chat, payload.message_id, from_me=True)
            protocol.editedMessage.conversation = payload.text
        case RevokePayload():
            message.protocolMessage.type = REVOKE
            _key(message.protocolMessage.key, chat, payload.message_id, from_me=True)


def _text(message: Any, payload: TextPayload, *, author: str) -> None:
    if payload.reply_to is None and not payload.mentions:
        message.conversation = payload.text
        return
    message.extendedTextMessage.text = payload.text
    context = message.extendedTextMessage.contextInfo
    context.mentionedJID.extend(phone_jid(phone) for phone in payload.mentions)
    if payload.reply_to is None:
        return
    context.stanzaID = payload.reply_to
    context.participant = phone_jid(author)
    context.quotedMessage.conversation = ""


def _media(message: Any, kind: str, payload: MediaPayload, media: MediaFiles) -> None:
    file = media.encrypt(kind, payload.data)
    found = getattr(message, f"{kind}Message")
    found.URL, found.directPath, found.mediaKey = file.url, file.direct_path, file.media_key
    found.fileSHA256, found.fileEncSHA256 = file.file_sha256, file.file_enc_sha256
    found.fileLength = file.file_bytes
    found.mimetype = payload.mimetype or MIMETYPES[kind]
    if kind in ("image", "video", "document") and payload.caption:
        found.caption = payload.caption
    if kind == "document":
        found.fileName = payload.filename
    if kind == "audio":
        found.PTT = payload.ptt


def _key(key: Any, chat: str, message_id: str, *, from_me: bool) -> None:
    key.remoteJID = chat if "@" in chat else phone_jid(chat)
    key.fromMe = from_me
    key.ID = message_id


def _vcard(payload: ContactPayload) -> str:
    digits = payload.phone.removeprefix("+")
    lines = ("BEGIN:VCARD", "VERSION:3.0", f"FN:{payload.name}", f"TEL;waid={digits}:+{digits}", "END:VCARD")
    return "\n".join(lines)
