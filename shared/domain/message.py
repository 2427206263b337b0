"""A message's life: its statuses, which may follow which, and the words of its error and parked reasons."""

from enum import StrEnum
from typing import Final


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class MessageStatus(StrEnum):
    """docs/states.md draws them. Inbound messages are born `delivered`, as in the seed."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PROCESSING = "processing"
    FAILED = "failed"  # a try failed, another is due
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"
    DLQ = "dlq"  # tries exhausted, or refused for good
    EXPIRED = "expired"
    CANCELED = "canceled"
    UNKNOWN = "unknown"  # in doubt: a receipt may still settle it


class MessageType(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    REACTION = "reaction"
    POLL = "poll"
    EDIT = "edit"
    REVOKE = "revoke"


class ParkedReason(StrEnum):
    """Why a message waits although a worker is free. The first five also pause a group of jobs."""

    CONNECTION_OFFLINE = "connection_offline"
    CONNECTION_PAUSED = "connection_paused"
    RATE_LIMITED = "rate_limited"
    CHAT_RESTRICTED = "chat_restricted"
    QUIET_HOURS = "quiet_hours"
    QUEUE_PAUSED = "queue_paused"
    BEHIND_EARLIER_MESSAGE = "behind_earlier_message"


S = MessageStatus

# A fact about the wire (sent, delivered, read, played) is accepted from every state in which the message may have
# left, cancelled and expired included: the receipt is right and our bookkeeping was late.
_LEFT: Final = frozenset({S.SENT, S.DELIVERED, S.READ, S.PLAYED})

MOVES: Final[dict[MessageStatus, frozenset[MessageStatus]]] = {
    S.SCHEDULED: frozenset({S.QUEUED, S.CANCELED, S.EXPIRED, S.DLQ, S.PROCESSING}),
    S.QUEUED: frozenset({S.PROCESSING, S.CANCELED, S.EXPIRED, S.DLQ, S.FAILED}),
    S.PROCESSING: frozenset({S.QUEUED, S.FAILED, S.DLQ, S.EXPIRED, S.CANCELED, S.UNKNOWN}) | _LEFT,
    S.FAILED: frozenset({S.QUEUED, S.PROCESSING, S.DLQ, S.EXPIRED, S.CANCELED}) | _LEFT,
    S.UNKNOWN: frozenset({S.QUEUED, S.PROCESSING, S.DLQ}) | _LEFT,
    S.DLQ: frozenset({S.QUEUED}) | _LEFT,
    S.EXPIRED: _LEFT,
    S.CANCELED: _LEFT,
    S.SENT: frozenset({S.DELIVERED, S.READ, S.PLAYED}),
    S.DELIVERED: frozenset({S.READ, S.PLAYED}),
    S.READ: frozenset({S.PLAYED}),
    S.PLAYED: frozenset(),
}

CANCELABLE: Final = frozenset({S.SCHEDULED, S.QUEUED, S.FAILED})
RETRYABLE: Final = frozenset({S.FAILED, S.DLQ, S.UNKNOWN})
SETTLED: Final = frozenset({S.SENT, S.DELIVERED, S.READ, S.PLAYED, S.DLQ, S.EXPIRED, S.CANCELED})


def may_move(from_: MessageStatus, to: MessageStatus) -> bool:
    """Whether a message may go from one status to the other; never backwards along sent, delivered, read, played."""
    return to in MOVES[from_]
