"""The bodies that clients send, parsed at the door: every field bounded, unknown ones refused."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.db.api_keys import Scope
from shared.domain import content
from shared.domain.connection_config import ConnectionConfig
from shared.domain.content import MessageRef, Phone, storable
from shared.domain.errors import InvalidInput
from shared.domain.jid import Jid, parse_jid
from shared.domain.message import MessageType

_MAX_JSON_BYTES: Final = 16_384
_MAX_TTL_S: Final = 31_536_000  # a year
MAX_BATCH: Final = 1000


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False).encode()) > _MAX_JSON_BYTES:
        raise ValueError(f"must not be longer than {_MAX_JSON_BYTES} bytes of JSON")
    return value


def _jid(text: str) -> Jid:
    try:
        return parse_jid(text)
    except InvalidInput as error:
        raise ValueError(error.detail) from error


def _not_a_number(value: object) -> object:
    # pydantic would take 1700000000 for a Unix time, in seconds or milliseconds as it guesses.
    if not isinstance(value, str | datetime):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")  # noqa: TRY004 - pydantic reports a ValueError
    return value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Label = Annotated[
    str, StringConstraints(min_length=1, max_length=100), AfterValidator(storable), AfterValidator(_not_blank)
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(storable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_small)]
# Sums with a ttl, and other time zones, stay within what datetime can hold.
Time = Annotated[
    AwareDatetime,
    BeforeValidator(_not_a_number),
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC)),
]
Recipient = Annotated[str, AfterValidator(_jid)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048), AfterValidator(storable)]


class Input(BaseModel):
    """A body or a query: unknown fields are refused, values are not guessed at, and none is ever echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class PairingMethod(StrEnum):
    QR = "qr"
    CODE = "code"


class Pairing(Input):
    method: PairingMethod = PairingMethod.QR
    phone: Phone | None = Field(None, description="whose phone shows the code's prompt; for `code` alone")

    @model_validator(mode="after")
    def _names_whose_phone(self) -> Self:
        if (self.method is PairingMethod.CODE) != (self.phone is not None):
            raise ValueError("give `phone` with the method `code`, and with no other")
        return self


class CreateConnection(Input):
    label: Label
    external_id: Name | None = None
    webhook_url: Url | None = None
    webhook_secret: SecretStr | None = Field(None, max_length=255)
    config: ConnectionConfig = ConnectionConfig()
    pairing: Pairing = Pairing()
    metadata: JsonObject = Field(default_factory=dict)

    @model_validator(mode="after")
    def _secret_has_a_url(self) -> Self:
        if self.webhook_secret is not None and self.webhook_url is None:
            raise ValueError("webhook_secret needs a webhook_url")
        return self


class PatchConnection(Input):
    """What is given replaces what was there; null takes an optional value away."""

    label: Label | None = None
    external_id: Name | None = None
    webhook_url: Url | None = None
    webhook_secret: SecretStr | None = Field(None, max_length=255)
    config: ConnectionConfig | None = None
    metadata: JsonObject | None = None

    @model_validator(mode="after")
    def _keeps_what_must_be(self) -> Self:
        for name in ("label", "config", "metadata", "webhook_secret"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        if self.webhook_secret is not None and "webhook_url" in self.model_fields_set and self.webhook_url is None:
            raise ValueError("webhook_secret needs a webhook_url")
        return self


class PairCode(Input):
    phone: Phone


class Order(StrEnum):
    CHAT = "chat"
    NONE = "none"


class SendFields(Input):
    """What a message of any type may say about its sending."""

    to: Recipient = Field(description="a phone number with country code, or a JID")
    message_id: Name | None = Field(None, description="your own id, unique per connection; made when left out")
    priority: StrictInt = Field(0, ge=0, le=9, description="within the queue, greater first")
    send_at: Time | None = None
    ttl_seconds: StrictInt | None = Field(None, ge=0, le=_MAX_TTL_S, description="0: never expires")
    order: Order = Order.CHAT
    reply_to: MessageRef | None = None
    mentions: list[Recipient] = Field(default_factory=list, max_length=1024)
    if_offline: Literal["park", "reject"] = "park"
    on_unknown: Literal["hold", "resend"] = "hold"
    metadata: JsonObject = Field(default_factory=dict)


class SendText(SendFields):
    type: Literal[MessageType.TEXT]
    payload: content.TextPayload


class SendMedia(SendFields):
    type: Literal[MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT, MessageType.STICKER]
    payload: content.MediaPayload

    @field_validator("payload")
    @classmethod
    def _fits_the_type(cls, payload: content.MediaPayload, info: ValidationInfo) -> content.MediaPayload:
        type_ = info.data.get("type")
        if type_ is not None and (name := payload.unfit_for(type_)):
            raise ValueError(f"a message of type {type_.value} has no {name}")
        return payload


class SendLocation(SendFields):
    type: Literal[MessageType.LOCATION]
    payload: content.LocationPayload


class SendContact(SendFields):
    type: Literal[MessageType.CONTACT]
    payload: content.ContactPayload


class _SendMark(SendFields):
    """A message that means another one, which is all that it can refer to."""

    @field_validator("reply_to", "mentions")
    @classmethod
    def _refers_to_one_message(cls, value: object) -> object:
        if value:
            raise ValueError("a reaction, an edit or a revocation has none: it means the message of its payload")
        return value


class SendReaction(_SendMark):
    type: Literal[MessageType.REACTION]
    payload: content.ReactionPayload


class SendPoll(SendFields):
    type: Literal[MessageType.POLL]
    payload: content.PollPayload


class SendEdit(_SendMark):
    type: Literal[MessageType.EDIT]
    payload: content.EditPayload


class SendRevoke(_SendMark):
    type: Literal[MessageType.REVOKE]
    payload: content.RevokePayload


AnySend = SendText | SendMedia | SendLocation | SendContact | SendReaction | SendPoll | SendEdit | SendRevoke
Send = Annotated[AnySend, Field(discriminator="type")]


class SendBatch(Input):
    """Each message is parsed by itself, as `send` parses one: a wrong one spoils no other."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH)


class Resolve(Input):
    outcome: Literal["sent", "not_sent"]


class CleanQueue(Input):
    """Which jobs are deleted, of those that have ended."""

    state: Literal["completed", "failed", "cancelled"] = "completed"
    older_than_seconds: StrictInt = Field(86_400, ge=0, le=_MAX_TTL_S, description="ended longer ago than this")


class JobFilter(Input):
    """All that are given must hold."""

    connection_id: UUID | None = Field(None, description="jobs about this connection")
    group: Name | None = Field(None, description="jobs of this group, as `GET /jobs/{id}` shows it")
    error_code: Name | None = Field(None, description="whose `error.code` is this")
    created_after: Time | None = Field(None, description="enqueued at this time or later")
    created_before: Time | None = Field(None, description="enqueued before this time")


class RetryFailed(Input):
    """Which dead letters run again; nothing given: all of them."""

    ids: list[Name] | None = Field(None, min_length=1, max_length=MAX_BATCH, description="only these jobs")
    filter: JobFilter = JobFilter()
    limit: StrictInt | None = Field(None, ge=1, le=1_000_000, description="at most so many, the oldest first")
    dry_run: StrictBool = Field(default=False, description="only count them")


class CreateApiKey(Input):
    name: Label
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    connection_ids: list[UUID] | None = Field(None, min_length=1, max_length=MAX_BATCH)
    expires_at: Time | None = None
