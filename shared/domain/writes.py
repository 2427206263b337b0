"""The domain's writes as values, which the runner applies in the transaction that finishes the job.

`shared/db/writes.py` knows how each is applied, in batches. A new kind is a frozen dataclass here and one entry there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.jobs import NewJob
from shared.domain.media import MediaId
from shared.domain.message import MessageStatus
from shared.domain.session import SessionStatus


class Write:
    """One change to the domain's tables. Applying it twice must be harmless."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """A message's `error`, as the API shows it. `detail` holds no phone number and no body."""

    code: str
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveMessage(Write):
    """Move a message to `to` when it may go there; otherwise nothing happens.

    `send_no` guards a try's own verdict (failed, unknown, dlq, queued): it is dropped unless that try is the newest.
    `wire_id` and `wire_at` are what WhatsApp answered. `retry_in_s` says when the next try is due.
    """

    message_id: MessageId
    to: MessageStatus
    send_no: int | None = None
    wire_id: WireId | None = None
    wire_at: datetime | None = None
    error: ErrorInfo | None = None
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBackTry(Write):
    """A try that the host declined although the message is fine (offline, busy): it does not count."""

    message_id: MessageId
    send_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReceipt(Write):
    """A receipt for a wire id, whether or not its send is recorded yet. `status` is delivered, read or played."""

    connection_id: ConnectionId
    wire_id: WireId
    status: MessageStatus
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFromWire(Write):
    """Store a message that did not come through the API, once. `message_id` is the row's new id.

    `jid` is the chat, `alias_jid` its other name (a `@lid`), `sender_alias` the writer's, `event_type` what the log
    calls its arrival.
    `wire_sender` is the writer as the stanza named him, where `sender_jid` is the number that this stands for.
    """

    message_id: MessageId
    connection_id: ConnectionId
    wire_id: WireId
    jid: str
    phone: str | None
    alias_jid: str | None
    sender_jid: str | None
    participant: str | None
    push_name: str | None
    from_me: bool
    type: str
    payload: Mapping[str, Any]
    at: datetime
    backfilled: bool
    event_type: str
    sender_alias: str | None = None
    wire_sender: str | None = None
    reply_to: str | None = None
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectMedia(Write):
    """The file of a message that was just stored from the wire is to be fetched. Again is nothing.

    `sha256` and `size` are what its sender says; `source_sealed` says where it is and what opens it.
    """

    media_id: MediaId
    connection_id: ConnectionId
    wire_id: WireId
    jid: str
    sender_jid: str | None
    mimetype: str
    filename: str | None
    sha256: bytes | None
    size: int | None
    source_sealed: bytes
    keep_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleMedia(Write):
    """Tell a message what became of its file: it is stored, or with `error` it cannot be had. Again is nothing."""

    media_id: MediaId
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountIgnored(Write):
    """A message was dropped because its connection's config ignores chats of this kind; the metric tells how many."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveConnection(Write):
    """Move a connection when it may go there; `epoch` fences a host that lost its lease."""

    connection_id: ConnectionId
    to: SessionStatus
    reason: str | None = None
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEvent(Write):
    """Append to the durable event log; endpoints that subscribe to `type` get it as a webhook."""

    connection_id: ConnectionId
    type: str
    payload: Mapping[str, Any]
    severity: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueJob(Write):
    """Enqueue a job in the same commit; the runner rings its queue afterwards."""

    job: NewJob
