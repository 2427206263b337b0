"""A session's life (a "connection" in the API): its statuses and which may follow which."""

from enum import StrEnum
from typing import Final


class SessionStatus(StrEnum):
    """docs/states.md draws them. CONTRACT's names."""

    INITIALIZING = "initializing"
    QR_PENDING = "qr_pending"
    PASSKEY_REQUIRED = "passkey_required"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    FAILED = "failed"
    CLOSED = "closed"


S = SessionStatus

# A host works on these; the others wait for a person or an API call.
WORKED_ON: Final = frozenset(
    {S.INITIALIZING, S.QR_PENDING, S.PASSKEY_REQUIRED, S.CONNECTING, S.CONNECTED, S.DISCONNECTED}
)

# A send to one of these is refused at the door; to all others it is accepted and waits.
REFUSES_SENDS: Final = frozenset({S.CLOSED, S.FAILED})

_ENDS: Final = frozenset({S.LOGGED_OUT, S.REPLACED, S.BANNED, S.FAILED, S.CLOSED, S.DISCONNECTED})

MOVES: Final[dict[SessionStatus, frozenset[SessionStatus]]] = {
    S.INITIALIZING: frozenset({S.QR_PENDING, S.PASSKEY_REQUIRED, S.CONNECTING, S.CONNECTED}) | _ENDS,
    S.QR_PENDING: frozenset({S.INITIALIZING, S.PASSKEY_REQUIRED, S.CONNECTING, S.CONNECTED}) | _ENDS,
    S.PASSKEY_REQUIRED: frozenset({S.INITIALIZING, S.QR_PENDING, S.CONNECTING, S.CONNECTED}) | _ENDS,
    S.CONNECTING: frozenset({S.INITIALIZING, S.QR_PENDING, S.PASSKEY_REQUIRED, S.CONNECTED}) | _ENDS,
    S.CONNECTED: frozenset({S.INITIALIZING, S.CONNECTING}) | _ENDS,
    S.DISCONNECTED: frozenset({S.INITIALIZING, S.QR_PENDING, S.CONNECTING, S.CONNECTED}) | _ENDS - {S.DISCONNECTED},
    S.LOGGED_OUT: frozenset({S.INITIALIZING, S.CLOSED, S.FAILED}),
    S.REPLACED: frozenset({S.INITIALIZING, S.LOGGED_OUT, S.CLOSED, S.FAILED}),
    S.BANNED: frozenset({S.INITIALIZING, S.LOGGED_OUT, S.CLOSED, S.FAILED}),
    S.FAILED: frozenset({S.INITIALIZING, S.LOGGED_OUT, S.CLOSED}),
    S.CLOSED: frozenset({S.INITIALIZING}),
}


def may_move(from_: SessionStatus, to: SessionStatus) -> bool:
    """Whether a session may go from one status to the other."""
    return to in MOVES[from_]
