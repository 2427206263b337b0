"""Messages as clients see them: models for the OpenAPI document."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from api.problem_shapes import PartProblem
from api.shapes import CONNECTION_ID, MESSAGE_ID, TIME, GrowingShape, JobSummary, NextCursor, Shape
from shared.domain.message import Direction, MessageStatus, ParkedReason


class SendError(GrowingShape):
    """Why a try failed, or the message did."""

    code: str = Field(examples=["NUMBER_NOT_ON_WHATSAPP"])
    detail: str | None = Field(None, examples=["Nobody has this number on WhatsApp."])
    retryable: bool | None = Field(None, examples=[False])
    at: datetime | None = Field(None, examples=[TIME])


class Edited(GrowingShape):
    """What a message says since its newest edit."""

    text: str = Field(examples=["It is ready."], description="or the caption, of a file")
    at: datetime = Field(examples=[TIME])


class Reaction(GrowingShape):
    """The newest reaction of one person."""

    from_: str | None = Field(alias="from", examples=["5511987654321@s.whatsapp.net"], description="whose it is")
    emoji: str = Field(examples=["👍"])
    at: datetime = Field(examples=[TIME])


class Vote(GrowingShape):
    """The newest vote of one person in a poll."""

    from_: str | None = Field(alias="from", examples=["5511987654321@s.whatsapp.net"], description="whose it is")
    options: list[str] | None = Field(examples=[["today"]], description="empty: taken back; null: it cannot be read")
    at: datetime = Field(examples=[TIME])


class Message(GrowingShape):
    """One message, sent or received."""

    id: UUID = Field(examples=[MESSAGE_ID])
    connection_id: UUID = Field(examples=[CONNECTION_ID])
    message_id: str | None = Field(examples=["order-1001"], description="your own id, or one that was made")
    direction: Direction = Field(examples=["outbound"])
    jid: str = Field(examples=["5511987654321@s.whatsapp.net"], description="the chat, as WhatsApp spells it")
    phone: str | None = Field(examples=["5511987654321"], description="of the chat, where it is a person")
    lid: str | None = Field(examples=["123456789012345@lid"], description="the person's other JID, once it is known")
    to: str | None = Field(examples=["5511987654321@s.whatsapp.net"])
    from_: str | None = Field(alias="from", examples=["5511900000000@s.whatsapp.net"])
    participant: str | None = Field(examples=[None], description="who wrote, in a group")
    participant_lid: str | None = Field(examples=[None], description="the writer's other JID, once it is known")
    push_name: str | None = Field(examples=[None])
    from_me: bool = Field(examples=[True])
    source: Literal["api", "phone"] = Field(examples=["api"])
    backfilled: bool = Field(examples=[False], description="WhatsApp kept it while the device was away")
    type: str = Field(examples=["text"], description="new ones may appear")
    payload: dict[str, Any] = Field(examples=[{"text": "Hello"}])
    reply_to: str | None = Field(examples=[None])
    mentions: list[str] | None = Field(examples=[[]])
    status: MessageStatus = Field(examples=["queued"])
    attempts: int = Field(examples=[0])
    error: SendError | None = Field(examples=[None])
    parked_reason: ParkedReason | None = Field(examples=[None], description="why it waits although it is its turn")
    next_attempt_at: datetime | None = Field(examples=[None])
    send_at: datetime | None = Field(examples=[None])
    wa_message_id: str | None = Field(examples=[None], description="WhatsApp's id, once it is known")
    wa_timestamp: datetime | None = Field(examples=[None])
    metadata: dict[str, Any] = Field(examples=[{"campaign": "spring"}])
    created_at: datetime = Field(examples=[TIME])
    sent_at: datetime | None = Field(examples=[None])
    delivered_at: datetime | None = Field(examples=[None])
    read_at: datetime | None = Field(examples=[None])
    played_at: datetime | None = Field(examples=[None])
    expires_at: datetime | None = Field(examples=[TIME])
    target_id: UUID | None = Field(
        examples=[None], description="the `id` of the message that this one means, if it means one that is known"
    )
    edited: Edited | None = Field(examples=[None], description="its newest edit; null: there is none")
    revoked_at: datetime | None = Field(examples=[None], description="when it was deleted for everybody")
    reactions: list[Reaction] = Field(examples=[[]], description="the newest of each person")
    votes: list[Vote] = Field(examples=[[]], description="in a poll, the newest of each person")


class MessageDetail(Message):
    """A message with its place in the line."""

    position: int | None = Field(examples=[0], description="how many go before it; null: it does not wait")
    estimated_send_at: datetime | None = Field(examples=[TIME], description="a guess; null: nobody knows")


class MessagePage(Shape):
    data: list[Message]
    next_cursor: str | None = NextCursor


class TimelineEntry(GrowingShape):
    """One thing that happened to a message; which members it has depends on its `kind`."""

    kind: Literal["transition", "attempt", "webhook"] = Field(examples=["transition"])
    at: datetime = Field(examples=[TIME])
    from_: str | None = Field(None, alias="from", examples=["queued"], description="of a transition")
    to: str | None = Field(None, examples=["processing"], description="of a transition")
    detail: Any = Field(None, examples=[None], description="of a transition: what there is to say")
    send_no: int | None = Field(None, examples=[None], description="of an attempt: its number")
    job_id: str | None = Field(None, examples=[None], description="of an attempt")
    outcome: str | None = Field(None, examples=[None], description="of an attempt; null: under way, or never told")
    wa_message_id: str | None = Field(None, examples=[None], description="of an attempt that left")
    finished_at: datetime | None = Field(None, examples=[None], description="of an attempt")
    event: str | None = Field(None, examples=[None], description="of a webhook: what it told")
    delivery_id: UUID | None = Field(None, examples=[None], description="of a webhook")
    attempt: int | None = Field(None, examples=[None], description="of a webhook: which try")
    status: int | None = Field(None, examples=[None], description="of a webhook: what the receiver answered")
    duration_ms: int | None = Field(None, examples=[None], description="of a webhook")
    error: Any = Field(None, examples=[None], description="of an attempt or a webhook that failed")


class Timeline(Shape):
    data: list[TimelineEntry] = Field(description="oldest first")
    next_cursor: None = Field(examples=[None], description="always null: it comes as a whole")


class MessageAccepted(Shape):
    """A message that was accepted, now or, when `deduplicated`, before."""

    message: Message
    job: JobSummary | None = Field(description="null: its job was cleaned up")
    deduplicated: bool = Field(examples=[False], description="true: the same request came before")


class MessageRetried(Shape):
    message: Message
    job: JobSummary | None


class MessageChanged(Shape):
    message: Message


class BatchResult(Shape):
    """What became of one message of a batch: it has a `message` or an `error`."""

    index: int = Field(examples=[0], description="its place in `messages`, from 0")
    message: Message | None = None
    deduplicated: bool | None = Field(None, examples=[False])
    error: PartProblem | None = None


class BatchAccepted(Shape):
    results: list[BatchResult] = Field(description="one for each message, in the same order")
