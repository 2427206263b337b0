"""What clients send to `/webhooks` and `/deliveries`, parsed at the door: every field bounded, unknown ones refused."""

from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import ConfigDict, Field, SecretStr, StrictInt, model_validator

from api.inputs import MAX_BATCH, Input, Name, Order, Time, Url
from api.pages import DEFAULT_LIMIT, Cursor, Limit
from shared.domain.webhook import DeliveryStatus, PayloadFormat

_MAX_GRACE_S: Final = 7 * 86_400
_DAY_S: Final = 86_400

Events = Annotated[
    list[Name],
    Field(
        min_length=1,
        max_length=100,
        description="`*` for all, a category such as `message.*`, or names such as `message.received`",
        examples=[["message.*", "session.connected"]],
    ),
]
ConnectionIds = Annotated[
    list[UUID] | None,
    Field(
        min_length=1,
        max_length=MAX_BATCH,
        description="only events of these connections; null: of all, and of none (such as `queue.backlog`)",
    ),
]
Headers = Annotated[
    dict[str, str],
    Field(
        description=(
            "sent with every webhook, at most 20; kept encrypted and never shown again. Those of the signature, of the "
            "connection and of the body's form are refused"
        ),
        examples=[{"Authorization": "Bearer 3f9c"}],
    ),
]
_ORDER: Final = (
    "`chat`: a webhook of a chat waits until the one before it was delivered or given up, however long that takes; "
    "`none`: they may overtake each other"
)
_FORMAT: Final = (
    "in whose words it tells: `zaphub`, `evolution` (Evolution API's events) or `cloud_api` (the `messages` webhook of "
    "Meta's Cloud API); an event that a format has no words for is not sent. docs/migration.md lists them"
)
Secret = Annotated[
    SecretStr | None,
    Field(
        max_length=255, description="`whsec_` and the base64 of 24 to 64 bytes; left out, one is made and shown once"
    ),
]


class CreateWebhook(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://example.com/zaphub", "events": ["message.*", "session.*"]}]}
    )

    url: Url = Field(description="https or http, on the public internet", examples=["https://example.com/zaphub"])
    events: Events
    connection_ids: ConnectionIds = None
    headers: Headers = Field(default_factory=dict)
    order: Order = Field(Order.NONE, description=_ORDER)
    payload_format: PayloadFormat = Field(PayloadFormat.ZAPHUB, description=_FORMAT)
    secret: Secret = None


class PatchWebhook(Input):
    """What is given replaces what was there; `connection_ids` null means all connections."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": ["message.received"]}]})

    url: Url | None = Field(None, description="another URL is a fresh start: the endpoint is enabled again")
    events: Events | None = None
    connection_ids: ConnectionIds = None
    headers: Headers | None = None
    order: Order | None = Field(None, description=_ORDER)
    payload_format: PayloadFormat | None = Field(None, description=_FORMAT)

    @model_validator(mode="after")
    def _keeps_what_must_be(self) -> Self:
        for name in ("url", "events", "headers", "order", "payload_format"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        return self


class RotateSecret(Input):
    secret: Secret = None
    grace_seconds: StrictInt = Field(
        _DAY_S, ge=0, le=_MAX_GRACE_S, description="how long the secrets before sign too; 0 when one has leaked"
    )


class ReplayWebhook(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"since": "2026-01-31T00:00:00Z", "until": "2026-01-31T12:00:00Z"}]}
    )

    since: Time = Field(description="events and deliveries made at this time or later")
    until: Time | None = Field(None, description="and before this; left out, until now")
    cursor: UUID | None = Field(None, description="`next_cursor` of a replay that was not complete")


class ListWebhooks(Input):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


class ListDeliveries(Input):
    status: DeliveryStatus | None = Field(None, description="only those that are in this state")
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None
