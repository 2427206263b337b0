"""Endpoints and deliveries as clients see them: models for the OpenAPI document, functions that build what they say."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field

from api.inputs import Order
from api.shapes import CONNECTION_ID, JobSummary, NextCursor, Shape
from shared.db.pool import Record
from shared.db.webhook_circuits import Circuit
from shared.domain.webhook import DeliveryStatus, Endpoint, PayloadFormat

_ID: Final = "5d0b9d3f-6a5e-4b0e-9c51-0a1d6fd8d6b7"
_DELIVERY_ID: Final = "0f5f4c1e-97f3-5b56-a0c5-2f3b1d1c8a11"
_TIME: Final = "2026-01-31T12:00:00.000Z"
_ERROR: Final = {"code": "WEBHOOK_REFUSED", "detail": "the receiver answered 500"}


class Webhook(Shape):
    """An endpoint: where webhooks go. Neither its secret nor the values of its headers are shown."""

    id: UUID = Field(examples=[_ID])
    url: str = Field(examples=["https://example.com/zaphub"])
    events: list[str] = Field(examples=[["message.*"]], description="empty: only what is sent to it by name")
    connection_ids: list[UUID] | None = Field(examples=[None], description="null: every connection")
    connection_id: UUID | None = Field(examples=[None], description="the connection whose `webhook_url` this is")
    header_names: list[str] = Field(examples=[["Authorization"]])
    order: Order
    payload_format: PayloadFormat = Field(description="of what is made from now on; what waits keeps its form")
    enabled: bool
    disabled_reason: str | None = Field(examples=["the receiver answered 410 Gone"])
    failing_since: datetime | None = Field(
        examples=[None], description="since then no try succeeded; null: the last one did, or there was none"
    )
    paused_until: datetime | None = Field(
        examples=[None],
        description="it failed so often, or asked by `Retry-After`, that nothing is tried before this; then one is",
    )
    created_at: datetime = Field(examples=[_TIME])
    updated_at: datetime = Field(examples=[_TIME])


class NewWebhook(Webhook):
    """As it is shown once, right after it was made."""

    secret: str | None = Field(
        None,
        description="signs its webhooks; absent when you brought it, and when this answer repeats an earlier one",
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpU2RtPDYnXs="],
    )


class RotatedSecret(Shape):
    id: UUID = Field(examples=[_ID])
    secret: str | None = Field(
        None,
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpU2RtPDYnXs="],
        description="shown this once; absent when you brought it",
    )
    previous_valid_until: datetime = Field(examples=[_TIME], description="until then the secret before signs too")


class WebhookPage(Shape):
    data: list[Webhook]
    next_cursor: str | None = NextCursor


class DeliveryError(Shape):
    code: str = Field(examples=["WEBHOOK_REFUSED"], description="docs/webhooks.md lists them")
    detail: str = Field(examples=["the receiver answered 500"])


class Delivery(Shape):
    """One event on its way to one endpoint."""

    id: UUID = Field(examples=[_DELIVERY_ID], description="the header `webhook-id`, and the body's `id`")
    webhook_id: UUID = Field(examples=[_ID])
    event_id: UUID = Field(
        examples=["3f0c9a54-7a55-4b8e-9d0e-6f6a1f0f2c11"], description="in the event log; a test's is nowhere else"
    )
    connection_id: UUID | None = Field(examples=[CONNECTION_ID])
    event: str = Field(examples=["message.received"])
    sequence: int = Field(examples=[42])
    status: DeliveryStatus = Field(
        description="`pending`: on its way; `dead`: given up; `canceled`: its endpoint went away before it was sent"
    )
    attempt_count: int = Field(examples=[2])
    last_status: int | None = Field(examples=[500], description="null: no HTTP answer")
    last_error: DeliveryError | None = Field(examples=[_ERROR])
    next_attempt_at: datetime | None = Field(examples=[_TIME])
    created_at: datetime = Field(examples=[_TIME])
    finished_at: datetime | None = Field(examples=[None])


class Attempt(Shape):
    """One POST of a delivery."""

    attempt: int = Field(examples=[1])
    at: datetime = Field(examples=[_TIME])
    status: int | None = Field(examples=[500], description="null: no HTTP answer")
    duration_ms: int = Field(examples=[87], description="from the name to the last byte that was read")
    error: DeliveryError | None = Field(examples=[_ERROR])
    response: str | None = Field(
        examples=["internal error"],
        description="the first 2 kB of the reply, as text; it is the receiver's own: escape it where you show it",
    )


class DeliveryDetail(Delivery):
    body: str = Field(
        description="the bytes that every attempt sends", examples=['{"id":"…","event":"message.received"}']
    )
    attempts: list[Attempt] = Field(description="oldest first")


class DeliveryPage(Shape):
    data: list[Delivery]
    next_cursor: str | None = NextCursor


class Queued(Shape):
    """A delivery that is on its way, and the job that takes it there."""

    delivery: Delivery
    job: JobSummary
    deduplicated: bool = Field(description="it was on its way already, and is due now")


class Replayed(Shape):
    count: int = Field(examples=[120], description="deliveries that are on their way by this call")
    complete: bool = Field(description="false: the time was up; call again, with `next_cursor` as `cursor`")
    next_cursor: UUID | None = Field(examples=[None])


def webhook_shown(endpoint: Endpoint, circuit: Circuit | None) -> dict[str, Any]:
    """`circuit` None: its last try succeeded, or it may be tried as if it had."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "connection_ids": endpoint.connection_ids,
        "connection_id": endpoint.owner_id,
        "header_names": endpoint.header_names,
        "order": (Order.CHAT if endpoint.keeps_order else Order.NONE).value,
        "payload_format": endpoint.payload_format.value,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": None if circuit is None else circuit.failing_since,
        "paused_until": None if circuit is None else circuit.probe_at,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def delivery_shown(row: Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "webhook_id": row["endpoint_id"],
        "event_id": row["event_id"],
        "connection_id": row["connection_id"],
        "event": row["event_type"],
        "sequence": row["sequence"],
        "status": row["status"],
        "attempt_count": row["attempts"],
        "last_status": row["last_status"],
        "last_error": _error(row["last_error"]),
        "next_attempt_at": row["next_attempt_at"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }


def attempt_shown(row: Record) -> dict[str, Any]:
    response: bytes | None = row["response"]
    return {
        "attempt": row["attempt"],
        "at": row["at"],
        "status": row["status"],
        "duration_ms": row["duration_ms"],
        "error": _error(row["error"]),
        # Cut after 2 kB, it may end within a character, and a receiver may send anything.
        "response": None if response is None else response.decode(errors="replace"),
    }


def _error(stored: str | None) -> dict[str, str] | None:
    """`WEBHOOK_REFUSED: the receiver answered 500`, or a sentence alone when it was never tried."""
    if stored is None:
        return None
    code, separator, detail = stored.partition(": ")
    return {"code": code, "detail": detail} if separator else {"code": "CANCELED", "detail": stored}
