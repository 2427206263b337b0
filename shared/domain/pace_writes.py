"""What a try of a message means for the pace of its chat and its connection, as writes."""

from dataclasses import dataclass

from shared.domain.ids import ConnectionId, MessageId
from shared.domain.message import ParkedReason
from shared.domain.writes import ErrorInfo, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldMessage(Write):
    """WhatsApp did not take it now, and it is no fault of the message: it waits again, its try given back.

    Dropped unless the try `send_no` is the newest and runs. `error` stays to be seen while it waits. `retry_in_s` None:
    when its connection goes on, which is not for this message to say.
    """

    message_id: MessageId
    send_no: int
    reason: ParkedReason
    error: ErrorInfo
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictChat(Write):
    """WhatsApp restricts this message's chat: nothing is sent to it, by any name, for `for_s`. Each counts."""

    message_id: MessageId
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearRefusals(Write):
    """WhatsApp took a message to a chat that it had restricted."""

    connection_id: ConnectionId
    jid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowSession(Write):
    """WhatsApp limits a number: all of its connection's messages wait, and leave more slowly afterwards."""

    connection_id: ConnectionId


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSession(Write):
    """A connection's next message leaves `for_s` later than its rate allows."""

    connection_id: ConnectionId
    for_s: float
