"""What a message says: the payload of each type, parsed strictly."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from shared.domain.errors import InvalidInput
from shared.domain.jid import parse_phone
from shared.domain.message import MessageType

MAX_TEXT: Final = 65_536
_MAX_POLL_OPTIONS: Final = 12
_MAX_THUMBNAIL: Final = 65_536  # characters of base64
# What a file of each type may be told of; the others are understood, and refused.
_OF_TYPES: Final = {
    "caption": frozenset({MessageType.IMAGE, MessageType.VIDEO, MessageType.DOCUMENT}),
    "ptt": frozenset({MessageType.AUDIO}),
    "waveform": frozenset({MessageType.AUDIO}),
    "gif": frozenset({MessageType.VIDEO}),
    "seconds": frozenset({MessageType.AUDIO, MessageType.VIDEO}),
    "width": frozenset({MessageType.IMAGE, MessageType.VIDEO, MessageType.STICKER}),
    "height": frozenset({MessageType.IMAGE, MessageType.VIDEO, MessageType.STICKER}),
    "thumbnail": frozenset({MessageType.IMAGE, MessageType.VIDEO, MessageType.DOCUMENT}),
}


def storable(text: str) -> str:
    """Refuse what a text may not hold: Postgres keeps no NUL, and UTF-8 has no lone surrogate. Raises ValueError."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL (U+0000)")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain half of a surrogate pair")
    return text


def _phone(text: str) -> str:
    try:
        return parse_phone(text)
    except InvalidInput as error:
        raise ValueError(error.detail) from error


Text = Annotated[str, AfterValidator(storable)]
Line = Annotated[Text, StringConstraints(min_length=1, max_length=1024)]
Base64 = Annotated[str, StringConstraints(min_length=4, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
LongText = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Phone = Annotated[str, AfterValidator(_phone)]
# Another message, by its `id`, `message_id` or `wa_message_id`.
MessageRef = Annotated[Text, StringConstraints(min_length=1, max_length=255)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class Preview(_Payload):
    """What is shown of a link, by your own word: ZapHub does not call the page."""

    url: Annotated[Text, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://")] = Field(
        description="as it stands in the text"
    )
    title: Line
    description: Line | None = None


class TextPayload(_Payload):
    text: LongText
    preview: Literal[False] | Preview = Field(
        default=False, description="of a link in the text, written by you; false, the default: none"
    )

    @field_validator("preview", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if value is True:
            raise ValueError("no page is fetched for a preview: give {url, title, description}, or leave it out")
        return value

    @model_validator(mode="after")
    def _previews_its_own_link(self) -> Self:
        if isinstance(self.preview, Preview) and self.preview.url not in self.text:
            raise ValueError("the preview's url must stand in the text")
        return self


class MediaPayload(_Payload):
    """One of `url`, `media_id` and `base64`."""

    url: Annotated[Text, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://")] | None = None
    media_id: Line | None = None
    base64: Base64 | None = None
    caption: LongText | None = None
    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\\]+$")] | None = None
    mimetype: (
        Annotated[str, StringConstraints(max_length=127, pattern=r"^[a-z0-9.+-]+/[A-Za-z0-9.+-]+(; ?[a-z]+=[\w.-]+)*$")]
        | None
    ) = None
    ptt: StrictBool = Field(default=False, description="an audio that was spoken for the chat; it must be Ogg Opus")
    gif: StrictBool = Field(default=False, description="a video that plays by itself, without sound")
    seconds: StrictInt | None = Field(
        None, ge=0, le=86_400, description="how long it plays, where the file does not say"
    )
    width: StrictInt | None = Field(None, ge=1, le=65_535)
    height: StrictInt | None = Field(None, ge=1, le=65_535)
    waveform: Base64 | None = Field(
        None, max_length=172, description="of a voice note: base64 of 64 numbers from 0 to 100, one byte each"
    )
    thumbnail: Base64 | None = Field(None, max_length=_MAX_THUMBNAIL, description="base64 of a small JPEG")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if sum(source is not None for source in (self.url, self.media_id, self.base64)) != 1:
            raise ValueError("give exactly one of url, media_id and base64")
        return self

    def unfit_for(self, type_: MessageType) -> str | None:
        """Which field a message of this type cannot have; None when all fit."""
        given = (name for name in _OF_TYPES if getattr(self, name) not in (None, False))
        return next((name for name in given if type_ not in _OF_TYPES[name]), None)


class LocationPayload(_Payload):
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    name: Line | None = None
    address: Line | None = None


class ContactPayload(_Payload):
    name: Line
    phone: Phone


class ReactionPayload(_Payload):
    message_id: MessageRef
    emoji: Annotated[Text, StringConstraints(max_length=32)] = Field(description="empty takes the reaction back")


class PollPayload(_Payload):
    question: Line
    options: list[Line] = Field(min_length=2, max_length=_MAX_POLL_OPTIONS)
    max: StrictInt = Field(1, ge=1, le=_MAX_POLL_OPTIONS, description="how many options one person may choose")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.options)) != len(self.options):
            raise ValueError("the options must differ from one another")
        if self.max > len(self.options):
            raise ValueError("max is greater than the number of options")
        return self


class EditPayload(_Payload):
    message_id: MessageRef
    text: LongText


class RevokePayload(_Payload):
    message_id: MessageRef


def plain(payload: BaseModel) -> dict[str, Any]:
    """The payload as it is stored: what was said, without the fields that were left out."""
    return payload.model_dump(mode="json", exclude_unset=True)
