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
    CLIENT_OUTDATED = "client_outdated"
    PASSKEY = "passkey"


# These strike live connections once, when they are ordered; the others wait for their turn.
IMMEDIATE = {FaultKind.DROP_CONNECTION, FaultKind.LOGGED_OUT, FaultKind.REPLACED, FaultKind.BANNED}
# These last until they are deleted: how things are, rather than what happens.
STANDING = {FaultKind.REFUSE_CONNECTIONS, FaultKind.CLIENT_OUTDATED, FaultKind.PASSKEY}
NOT_FOR_MESSAGES = {*STANDING, FaultKind.QUERY_ERROR}
WITH_A_CODE = {FaultKind.ACK_ERROR, FaultKind.QUERY_ERROR}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault for the next `count` messages that match, or one that stands; None matches every phone or contact.

    `code` is the error of `ack_error` and `query_error`, `ms` the delay of `ack_delay`. A `query_error` strikes a
    question about numbers. `client_outdated` turns away who logs in, and without a phone who wants to be linked, too;
    a phone with `passkey` links nobody who does not show one.
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

    def stands(self, kind: FaultKind, session_phone: str | None) -> bool:
        """Whether this is how things are: None asks of a client that has not said, or does not know, whose it is."""
        assert kind in STANDING, "the others happen and are over"
        return any(fault.kind is kind and fault.session_phone in (None, session_phone) for fault in self._ordered)
