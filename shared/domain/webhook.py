"""A webhook's words: who subscribes to what, a delivery's life and frozen body, its jobs, and the writes of a try."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

from shared.domain.ids import ConnectionId, DeliveryId, EndpointId, TenantId
from shared.domain.jobs import Dedupe, NewJob, QueueName
from shared.domain.writes import Write

FAN_OUT: Final = "fan-out"
DELIVER: Final = "deliver-webhook"
TEST: Final = "webhook.test"  # what a test of an endpoint is called; it is in no event log

# What a connection's own `webhook_url` gets.
CONNECTION_EVENTS: Final = ("session.*", "message.*")

# `*`, a whole category, or one type. A type that does not exist yet is allowed: old and new code run side by side.
_PATTERN: Final = re.compile(r"\*|[a-z]+\.(\*|[a-z_]+)")
# What may be a header's value and an event's name at once.
_EVENT_TYPE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class DeliveryStatus(StrEnum):
    """docs/states.md draws them."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"  # tries exhausted, or the endpoint said 410; a replay makes it pending again
    CANCELED = "canceled"  # its endpoint was disabled or deleted first


class PayloadFormat(StrEnum):
    """In whose words a webhook tells of an event: ZapHub's own, Evolution API's, or those of Meta's Cloud API."""

    ZAPHUB = "zaphub"
    EVOLUTION = "evolution"
    CLOUD_API = "cloud_api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where webhooks go. Header values and secrets are not here: only a delivery opens them.

    `owner_id` is the connection whose `webhook_url` this is. `events` empty: it gets only what is sent to it by name.
    `keeps_order`: a delivery of a chat waits until the one before it has ended, however long that is tried.
    `payload_format` is the form of its bodies from now on; those that are frozen stay as they are.
    """

    id: EndpointId
    tenant_id: TenantId
    owner_id: ConnectionId | None
    url: str
    events: tuple[str, ...]
    connection_ids: tuple[ConnectionId, ...] | None
    header_names: tuple[str, ...]
    keeps_order: bool
    payload_format: PayloadFormat = PayloadFormat.ZAPHUB
    enabled: bool
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAttempt(Write):
    """One try of a delivery, and what the delivery is after it; also the event `webhook.delivered` or `webhook.failed`.

    `http_status` None: no HTTP answer. `error` is a code and a sentence, without an address of ours. `response` is the
    first 2 kB of the answer's body as it came. `retry_in_s` says when the next try is due, `hold_s` for how long
    the receiver wants nothing at all.
    """

    delivery_id: DeliveryId
    attempt: int
    after: DeliveryStatus
    duration_ms: int
    http_status: int | None
    error: str | None
    response: bytes | None
    retry_in_s: float | None = None
    hold_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDelivery(Write):
    """A pending delivery ends without a try: canceled, or dead when its job ended without its handler's word."""

    delivery_id: DeliveryId
    after: DeliveryStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PostponeDelivery(Write):
    """A pending delivery was not tried, for a reason of our own, which is no fault of its endpoint."""

    delivery_id: DeliveryId
    reason: str
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableEndpoint(Write):
    """Send nothing more to an endpoint until a person enables it, and tell the others with `webhook.disabled`.

    Only an endpoint that is still enabled, with `url` unless that is None: the answer of an old URL does not disable a
    new one.
    """

    endpoint_id: EndpointId
    connection_id: ConnectionId | None
    url: str | None
    reason: str


def is_pattern(pattern: str) -> bool:
    """Whether `pattern` may stand in an endpoint's `events`: `*`, `message.*` or `message.sent`."""
    return _PATTERN.fullmatch(pattern) is not None


def is_event_type(name: str) -> bool:
    """Whether a caller's own event may be called this."""
    return _EVENT_TYPE.fullmatch(name) is not None


def matches(endpoint: Endpoint, event_type: str, connection_id: ConnectionId | None) -> bool:
    """Whether the endpoint subscribes to this event of this connection; whether it is enabled is not asked.

    An event without a connection reaches the endpoints that are not limited to some connections. The SQL function
    `event_is_wanted` says the same; a test holds them together.
    """
    if endpoint.owner_id not in {None, connection_id}:
        return False
    if endpoint.connection_ids is not None and connection_id not in endpoint.connection_ids:
        return False
    category = event_type.partition(".")[0]
    return not {"*", f"{category}.*", event_type}.isdisjoint(endpoint.events)


def delivery_id_of(endpoint_id: EndpointId, event_id: UUID) -> DeliveryId:
    """The delivery of one event to one endpoint; the same on every run, so that a second fan-out finds the first's."""
    return DeliveryId(uuid5(endpoint_id, str(event_id)))


def freeze_body(
    *,
    delivery_id: DeliveryId,
    event_type: str,
    connection_id: ConnectionId | None,
    external_id: str | None,
    sequence: int,
    at: datetime,
    payload_json: str,
) -> bytes:
    """Return the bytes that every attempt sends. `payload_json` goes in as it is: no number changes its form."""
    head = {
        "id": str(delivery_id),
        "event": event_type,
        "sessionId": None if connection_id is None else str(connection_id),
        "externalId": external_id,
        "sequence": sequence,
        "timestamp": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    opened = json.dumps(head, ensure_ascii=False, separators=(",", ":"))[:-1]
    return f'{opened},"payload":{payload_json}}}'.encode()


def fan_out_job(connection_id: ConnectionId | None) -> NewJob:
    """Return the job that makes deliveries of a connection's new events; None: of the events without a connection.

    It means "look again", so one may run and one wait.
    """
    return NewJob(
        queue=QueueName.WEBHOOK_DELIVERY,
        job_id=f"webhook-fanout-{connection_id or 'system'}",
        name=FAN_OUT,
        data={"sessionId": None if connection_id is None else str(connection_id)},
        dedupe=Dedupe.WAITING,
    )


def delivery_job(
    delivery_id: DeliveryId,
    *,
    endpoint_id: EndpointId,
    connection_id: ConnectionId | None,
    priority: int | None = None,
    again: bool = False,
    order_key: str | None = None,
) -> NewJob:
    """Return the job that sends one delivery. It holds ids only: URL and secrets are read when it runs.

    Deliveries of one endpoint share a group, so that a slow receiver delays nobody else. `again`: a person asked for
    it, so it is sent although it was delivered, canceled or given up before.
    """
    data: dict[str, str | bool | None] = {
        "deliveryId": str(delivery_id),
        "sessionId": None if connection_id is None else str(connection_id),
    }
    if again:
        data["again"] = True
    return NewJob(
        queue=QueueName.WEBHOOK_DELIVERY,
        job_id=f"webhook-{delivery_id}",
        name=DELIVER,
        data=data,
        priority=priority,
        group=f"endpoint:{endpoint_id}",
        order_key=order_key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery as it is to be sent now: the frozen body, and its endpoint's URL and sealed parts at this moment."""

    id: DeliveryId
    endpoint_id: EndpointId
    connection_id: ConnectionId | None
    event_type: str
    body: bytes
    status: DeliveryStatus
    attempts: int
    url: str
    secrets_sealed: bytes
    headers_sealed: Mapping[str, str]
    payload_format: PayloadFormat = PayloadFormat.ZAPHUB
    is_enabled: bool
