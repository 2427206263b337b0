"""What is asked for when messages are to be sent, and what may be answered."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final, TypeAlias
from uuid import UUID

from shared.db.idempotency import Before, KeyedRequest
from shared.db.pool import Record
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.jobs import Enqueued
from shared.domain.message import MessageType

_sorted_json: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """What a client asked for. `message_id` None: one is made. `ttl_seconds` None: the setting's, 0: never expires.

    `to` is a phone number with country code or a JID. `priority` 0 to 9 orders chats of one connection, greater first;
    `keeps_order` False leaves the chat's order; `waits_offline` False is refused unless the connection is connected.
    """

    to: str
    type: MessageType
    payload: Mapping[str, Any]
    message_id: str | None = None
    priority: int = 0
    send_at: datetime | None = None
    ttl_seconds: int | None = None
    keeps_order: bool = True
    reply_to: str | None = None
    mentions: tuple[str, ...] = ()
    waits_offline: bool = True
    on_unknown: str = "hold"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def body_hash(self) -> bytes:
        """Tells a repeat from another message under the same id."""
        said = [
            self.to,
            self.type,
            dict(self.payload),
            self.priority,
            self.send_at.isoformat() if self.send_at else None,
            self.ttl_seconds,
            self.keeps_order,
            self.reply_to,
            list(self.mentions),
            self.on_unknown,
            dict(self.metadata),
        ]
        return hashlib.sha256(_sorted_json(said).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """An accepted message, as the API shows it, in JSON; and its job (None once that was cleaned up).

    `deduplicated`: its id was used before, with the same body, and it is the message that was made then.
    """

    id: MessageId
    message_json: str
    job: Enqueued | None
    deduplicated: bool = False

    @property
    def message(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.message_json)
        return shown


Result: TypeAlias = SendResult | Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One caller's request: messages of one connection. `allowed` None: every connection of the tenant.

    `remember` says what to keep under `keyed` of what became of the messages, so that a repeat can be answered alike;
    None: nothing, and the key is free again.
    """

    connection_id: UUID
    tenant_id: TenantId
    requests: Sequence[SendRequest]
    allowed: Sequence[ConnectionId] | None = None
    keyed: KeyedRequest | None = None
    remember: Callable[[Sequence[Result]], Any] = lambda _: None

    def sees(self, row: Record) -> bool:
        """Whether the connection is there for this caller; `row` is None in every field when it is not at all."""
        return (
            row["tenant_id"] == self.tenant_id
            and not row["deleted"]
            and (self.allowed is None or self.connection_id in self.allowed)
        )


class Held(Enum):
    """Nothing was done for an ask: what another transaction has of it."""

    CONNECTION = auto()
    KEY = auto()


# One result per message; or what the first request with the same idempotency key finished with.
Served: TypeAlias = Sequence[Result] | Before
Answer: TypeAlias = Served | NotFound | Conflict | Held
