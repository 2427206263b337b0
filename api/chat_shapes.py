"""What the calls about chats and files answer: models for the OpenAPI document."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.shapes import CONNECTION_ID, TIME, Shape
from shared.hosts.protocol import TypingState

_MEDIA_ID = "4c7b7a6e-0a53-4d0f-9a53-2d7f8e1c9b20"


class TypingShown(Shape):
    """It was handed over; WhatsApp confirms nothing."""

    to: str = Field(examples=["5511987654321@s.whatsapp.net"])
    state: TypingState = Field(examples=["composing"])


class ReadShown(Shape):
    """It was handed over; WhatsApp confirms nothing."""

    count: int = Field(examples=[2], description="messages that were named")


class NumberChecked(Shape):
    """One number, as it was asked for."""

    phone: str = Field(examples=["5511987654321"])
    on_whatsapp: bool = Field(examples=[True])
    jid: str | None = Field(examples=["5511987654321@s.whatsapp.net"], description="how WhatsApp spells it, if it told")
    lid: str | None = Field(examples=["123456789012345@lid"], description="the person's other JID, if it told")


class NumbersChecked(Shape):
    data: list[NumberChecked] = Field(description="in the order in which they were asked for")


class MediaFile(Shape):
    """A file that was kept; its `id` is the `media_id` of a message."""

    id: UUID = Field(examples=[_MEDIA_ID])
    connection_id: UUID | None = Field(examples=[CONNECTION_ID], description="whose keys may use it; null: of none")
    mimetype: str = Field(examples=["image/png"])
    size: int | None = Field(examples=[20_480], description="bytes")
    sha256: str | None = Field(examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"])
    filename: str | None = Field(examples=["menu.png"])
    url: str = Field(examples=[f"/media/{_MEDIA_ID}"], description="where to fetch it, with a key")
    created_at: datetime = Field(examples=[TIME])
    expires_at: datetime | None = Field(examples=[TIME], description="when it is deleted, if nothing needs it then")
