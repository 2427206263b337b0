"""Evolution's messages, each of which says what it is in ours."""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import AliasChoices, Field, StrictBool, StrictInt, model_validator

from api.compat.evolution.inputs import Lenient
from shared.domain.content import MessageRef
from shared.domain.message import MessageType

_MAX_MENTIONS: Final = 1024
_MAX_POLL_VALUES: Final = 12
# A group's digits without its server: new ones are one long number, old ones a phone and a time.
_GROUP: Final = re.compile(r"[0-9]{18,25}|[0-9]{7,15}-[0-9]{9,11}")
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GROUP_SERVER: Final = "g.us"


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A message in our words, and which of the caller's fields each of ours came from."""

    fields: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)


class Key(Lenient):
    """How they name a message: here `id` is enough, as it is looked up within the instance."""

    id: MessageRef
    remote_jid: str | None = Field(None, alias="remoteJid")


class Quoted(Lenient):
    key: Key


class Addressed(Lenient):
    """Whom it is for, what it replies to, whom it names.

    `delay` and `linkPreview` are taken and do nothing: ZapHub paces by itself, and fetches no page.
    """

    number: str
    quoted: Quoted | None = None
    mentioned: list[str] = Field(default_factory=list, max_length=_MAX_MENTIONS)
    mentions_everybody: StrictBool = Field(default=False, validation_alias=AliasChoices("mentionsEveryOne", "everyOne"))

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.mentions_everybody:
            raise ValueError('"mentionsEveryOne" is not there; list the numbers in "mentioned"')
        return self

    def said(self, type_: MessageType, payload: dict[str, Any], **places: str) -> Translated:
        """The message; `places` name the caller's field of each member of `payload`."""
        fields: dict[str, Any] = {"to": recipient(self.number), "type": type_.value, "payload": _given(payload)}
        if self.quoted is not None:
            fields["reply_to"] = self.quoted.key.id
        if self.mentioned:
            fields["mentions"] = self.mentioned
        ours = {f"/payload/{name}": f"/{place}" for name, place in places.items()}
        return Translated(
            fields=fields,
            places={"/to": "/number", "/reply_to": "/quoted/key/id", "/mentions": "/mentioned", **ours},
        )


class SendText(Addressed):
    text: str

    def translated(self) -> Translated:
        return self.said(MessageType.TEXT, {"text": self.text}, text="text")


class SendMedia(Addressed):
    mediatype: Literal[MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT]
    media: str
    mimetype: str | None = None
    caption: str | None = None
    file_name: str | None = Field(None, alias="fileName")

    @model_validator(mode="after")
    def _names_a_document(self) -> Self:
        is_document = self.mediatype is MessageType.DOCUMENT
        if is_document and self.file_name is None and "base64" in _file(self.media):
            raise ValueError("For base64 the file name must be informed")
        return self

    def translated(self) -> Translated:
        payload = {
            **_file(self.media),
            "mimetype": self.mimetype,
            "caption": self.caption or None,
            "filename": self.file_name or None,
        }
        return self.said(self.mediatype, payload, url="media", base64="media", media_id="media", filename="fileName")


class _File(Addressed):
    """One file, under a name of its own."""

    sends: ClassVar[MessageType]
    called: ClassVar[str]
    more: ClassVar[dict[str, Any]] = {}

    def translated(self) -> Translated:
        payload = {**_file(getattr(self, self.called)), **self.more}
        return self.said(self.sends, payload, url=self.called, base64=self.called, media_id=self.called)


class SendAudio(_File):
    """A voice message, as it was recorded for the chat."""

    sends = MessageType.AUDIO
    called = "audio"
    more = {"ptt": True}

    audio: str


class SendSticker(_File):
    sends = MessageType.STICKER
    called = "sticker"

    sticker: str


class SendLocation(Addressed):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None

    def translated(self) -> Translated:
        payload = {
            "latitude": self.latitude,
            "longitude": self.longitude,
            "name": self.name or None,
            "address": self.address or None,
        }
        return self.said(MessageType.LOCATION, payload, latitude="latitude", longitude="longitude", name="name")


class Card(Lenient):
    """Of a card the name and the phone are sent; organization, email and url are not."""

    full_name: str = Field(alias="fullName")
    phone_number: str = Field(alias="phoneNumber")


class SendContact(Addressed):
    contact: list[Card] = Field(min_length=1, max_length=1, description="one at a time: each is a message here")

    def translated(self) -> Translated:
        [card] = self.contact
        payload = {"name": card.full_name, "phone": card.phone_number}
        return self.said(MessageType.CONTACT, payload, name="contact/0/fullName", phone="contact/0/phoneNumber")


class SendPoll(Addressed):
    """`selectableCount` 0 is as many as one likes."""

    name: str
    selectable_count: StrictInt = Field(alias="selectableCount", ge=0, le=_MAX_POLL_VALUES)
    values: list[str]

    def translated(self) -> Translated:
        payload = {"question": self.name, "options": self.values, "max": self.selectable_count or len(self.values)}
        return self.said(MessageType.POLL, payload, question="name", options="values", max="selectableCount")


class ChatKey(Lenient):
    """A message of a chat."""

    id: MessageRef
    remote_jid: str = Field(alias="remoteJid")


class SendReaction(Lenient):
    key: ChatKey
    reaction: str

    def translated(self) -> Translated:
        return Translated(
            fields={
                "to": recipient(self.key.remote_jid),
                "type": MessageType.REACTION.value,
                "payload": {"message_id": self.key.id, "emoji": self.reaction},
            },
            places={"/to": "/key/remoteJid", "/payload/message_id": "/key/id", "/payload/emoji": "/reaction"},
        )


class UpdateMessage(Lenient):
    number: str
    text: str
    key: Key

    def translated(self) -> Translated:
        return Translated(
            fields={
                "to": recipient(self.number),
                "type": MessageType.EDIT.value,
                "payload": {"message_id": self.key.id, "text": self.text},
            },
            places={"/to": "/number", "/payload/message_id": "/key/id", "/payload/text": "/text"},
        )


class DeleteMessage(ChatKey):
    def translated(self) -> Translated:
        return Translated(
            fields={
                "to": recipient(self.remote_jid),
                "type": MessageType.REVOKE.value,
                "payload": {"message_id": self.id},
            },
            places={"/to": "/remoteJid", "/payload/message_id": "/id"},
        )


def recipient(number: str) -> str:
    """Their number or JID as ours: they take a group's digits without its server too."""
    return f"{number}@{_GROUP_SERVER}" if _GROUP.fullmatch(number) else number


def _file(media: str) -> dict[str, str]:
    """A URL or base64, as with them; and the id of a file that `POST /media` took, which they do not have."""
    if _is_url(media):
        return {"url": media}
    return {"media_id": media} if _ID.fullmatch(media) else {"base64": media}


def _is_url(media: str) -> bool:
    return media.startswith(("https://", "http://"))


def _given(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if value is not None}
