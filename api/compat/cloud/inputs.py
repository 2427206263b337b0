"""What Meta's `messages` call takes, each kind of which says what it is in ours. What is not in it is refused."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from shared.domain.message import MessageType

# Theirs that only a business account of theirs can send.
UNSENT: Final = frozenset({"interactive", "template", "order", "product", "system", "unsupported", "button"})


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Type and payload of a message of ours, and which of the caller's fields each of ours came from."""

    type: MessageType
    payload: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)


class Context(Strict):
    message_id: str


class Text(Strict):
    """`preview_url` is taken and does nothing: ZapHub calls no page for a preview."""

    body: str
    preview_url: StrictBool = False

    def content(self) -> Content:
        return Content(type=MessageType.TEXT, payload={"text": self.body}, places={"/payload/text": "/text/body"})


class Media(Strict):
    """One of `id`, a `media_id` of ours, and `link`."""

    id: str | None = None
    link: str | None = None
    caption: str | None = None
    filename: str | None = None
    voice: StrictBool = False

    def content(self, type_: MessageType) -> Content:
        payload = {
            "media_id": self.id,
            "url": self.link,
            "caption": self.caption,
            "filename": self.filename,
            "ptt": self.voice or None,
        }
        given = {name: value for name, value in payload.items() if value is not None}
        theirs = {"media_id": "id", "url": "link", "ptt": "voice"}
        places = {f"/payload/{name}": f"/{type_}/{theirs.get(name, name)}" for name in payload}
        return Content(type=type_, payload=given, places={**places, "/payload": f"/{type_}"})


class Location(Strict):
    """They take the numbers as text too."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None

    def content(self) -> Content:
        payload = self.model_dump(exclude_none=True)
        return Content(type=MessageType.LOCATION, payload=payload, places={"/payload": "/location"})


class CardName(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    formatted_name: str


class CardPhone(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    phone: str | None = None
    wa_id: str | None = None

    @model_validator(mode="after")
    def _has_a_number(self) -> Self:
        if not (self.phone or self.wa_id):
            raise ValueError("give phone or wa_id")
        return self


class Card(BaseModel):
    """Of a card the name and the first phone are sent; addresses, emails, org, urls and birthday are not."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    name: CardName
    phones: list[CardPhone] = Field(min_length=1, max_length=20)

    def content(self) -> Content:
        phone = self.phones[0]
        return Content(
            type=MessageType.CONTACT,
            payload={"name": self.name.formatted_name, "phone": phone.wa_id or phone.phone},
            places={"/payload/name": "/contacts/0/name/formatted_name", "/payload/phone": "/contacts/0/phones/0/phone"},
        )


class Reaction(Strict):
    """Without an emoji, or with an empty one, it is taken back."""

    message_id: str
    emoji: str = ""


class SendMessage(Strict):
    """Exactly the object that `type` names; their own default for `type` is text."""

    messaging_product: Literal["whatsapp"]
    recipient_type: Literal["individual"] = "individual"
    to: str
    type: str = "text"
    context: Context | None = None
    biz_opaque_callback_data: Annotated[str, Field(max_length=512)] | None = None
    text: Text | None = None
    image: Media | None = None
    video: Media | None = None
    audio: Media | None = None
    document: Media | None = None
    sticker: Media | None = None
    location: Location | None = None
    contacts: Annotated[list[Card], Field(min_length=1, max_length=1)] | None = None
    reaction: Reaction | None = None

    @model_validator(mode="after")
    def _has_what_type_names(self) -> Self:
        if self.type not in KINDS:
            raise ValueError("type is none that there is")
        if getattr(self, self.type) is None:
            raise ValueError(f"the object {self.type} is required, as type names it")
        return self

    def content(self) -> Content:
        match self.type:
            case "text" if self.text is not None:
                return self.text.content()
            case "location" if self.location is not None:
                return self.location.content()
            case "contacts" if self.contacts:
                return self.contacts[0].content()
            case "reaction" if self.reaction is not None:
                payload = {"message_id": self.reaction.message_id, "emoji": self.reaction.emoji}
                places = {"/payload": "/reaction"}
                return Content(type=MessageType.REACTION, payload=payload, places=places)
            case kind:
                media: Media = getattr(self, kind)
                return media.content(MessageType(kind))


KINDS: Final = (
    *("text", "image", "video", "audio", "document", "sticker"),
    *("location", "contacts", "reaction"),
)


class TypingIndicator(Strict):
    type: Literal["text"]


class MarkRead(Strict):
    """`status: read` of a message that came in; `typing_indicator` shows that an answer is being written."""

    messaging_product: Literal["whatsapp"]
    status: Literal["read"]
    message_id: str
    typing_indicator: TypingIndicator | None = None
