"""The faults that a test has ordered, and when their turn comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum


class FaultKind(StrEnum):
    ACK_ERROR = "ack_error"
    NO_ACK = "no_ack"
    ACK_DELAY = "ack_delay"
    DROP_CONNECTION = "drop_connection"
    REFUSE_CONNECTIONS = "refuse_connections"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    QUERY_ERROR = "query_error"


# These strike live connections once, when they are ordered; the others wait for their turn.
IMMEDIATE = {FaultKind.DROP_CONNECTION, FaultKind.LOGGED_OUT, FaultKind.REPLACED, FaultKind.BANNED}
NOT_FOR_MESSAGES = {FaultKind.REFUSE_CONNECTIONS, FaultKind.QUERY_ERROR}
WITH_A_CODE = {FaultKind.ACK_ERROR, FaultKind.QUERY_ERROR}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault for the next `count` messages that match; None matches every phone or contact.

    `code` is the error of `ack_error` and `query_error`, `ms` the delay of `ack_delay`. A `query_error` strikes a
    question about numbers.
    """

    kind: FaultKind
    session_phone: str | None = None
    contact: str | None = None
    count: int = 1
    code: int = 0
    ms: int = 0

    def matches(self, session_phone: str, contact: str) -> bool:
        return self.session_phone in (None, session_phone) and self.contact in (None, contact)


class Faults:
    """Ordered faults, oldest first."""

    def __init__(self) -> None:
        self._ordered: list[Fault] = []

    def order(self, fault: Fault) -> None:
        self._ordered.append(fault)

    def clear(self) -> None:
        self._ordered.clear()

    def take_for_message(self, session_phone: str, contact: str) -> Fault | None:
        """The oldest fault that strikes this message, used up by one; None for a message that goes well."""
        return self._take(lambda one: one.kind not in NOT_FOR_MESSAGES and one.matches(session_phone, contact))

    def take_for_query(self, session_phone: str) -> Fault | None:
        """The oldest fault that strikes this session's question about numbers, used up by one."""
        return self._take(lambda one: one.kind is FaultKind.QUERY_ERROR and one.session_phone in (None, session_phone))

    def _take(self, strikes: Callable[[Fault], bool]) -> Fault | None:
        for at, fault in enumerate(self._ordered):
            if not strikes(fault):
                continue
            if fault.count > 1:
                self._ordered[at] = replace(fault, count=fault.count - 1)
            else:
                del self._ordered[at]
            return fault
        return None

    def refuses(self, session_phone: str | None) -> bool:
        """Whether a connection is refused: None asks before the client has said who it is."""
        return any(
            fault.kind is FaultKind.REFUSE_CONNECTIONS and fault.session_phone in (None, session_phone)
            for fault in self._ordered
        )
