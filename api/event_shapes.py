"""Events and tickets as clients see them: models and errors for the OpenAPI document, and what builds them."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field

from api.shapes import Shape
from shared.db.events import Event

_ID: Final = "3f0c9a54-7a55-4b8e-9d0e-6f6a1f0f2c11"
_CONNECTION: Final = "0b8f6f0e-6f3c-4d8e-9a43-3f5b0d7f0d11"
_CURSOR: Final = "MTc1Mg"
STREAM_EXAMPLE: Final = (
    f"retry: 2000\n\nid: {_ID}\nevent: message.sent\n"
    f'data: {{"id":"{_ID}","connection_id":"{_CONNECTION}","type":"message.sent","category":"message",'
    '"severity":"info","payload":{"status":"sent"},"created_at":"2026-01-31T12:00:00.000Z"}\n\n: keep-alive\n\n'
)


class EventShown(Shape):
    """Something that happened, in the order in which it is in the log."""

    id: UUID = Field(examples=[_ID])
    connection_id: UUID | None = Field(examples=[_CONNECTION], description="null: of no connection")
    type: str = Field(examples=["message.sent"], description="new ones may appear; ignore those you do not know")
    category: str = Field(examples=["message"], description="the type's first word")
    severity: Literal["debug", "info", "warn", "error"] = Field(examples=["info"])
    payload: dict[str, Any] = Field(
        examples=[{"id": "9b5c1c1e-5a0f-4b55-8a53-0a9a5d1f6c10", "status": "sent", "type": "text"}],
        description="the message or connection as it was at that moment",
    )
    created_at: datetime = Field(examples=["2026-01-31T12:00:00.000Z"])


class EventPage(Shape):
    data: list[EventShown]
    next_cursor: str | None = Field(
        examples=[_CURSOR], description="give it as `after` to go on; null: that is all there is by now"
    )


class Ticket(Shape):
    """Opens one stream without a key."""

    ticket: str = Field(examples=["zt_Jb2VVSBtKcFqHQ6qM4pZ0u4gBvQ8yHk8sF3n1xTq0aY"])
    expires_at: datetime = Field(examples=["2026-01-31T12:00:45.000Z"])
    cursor: str = Field(examples=[_CURSOR], description="where the log is now; give it as `after` of the first stream")


def event_shown(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "connection_id": event.connection_id,
        "type": event.type,
        "category": event.category,
        "severity": event.severity,
        "payload": event.payload,
        "created_at": event.created_at,
    }
