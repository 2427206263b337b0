"""A session's state machine: what a host does about what it is told. Pure; times are seconds of one clock.

Roads between the phases:

    opened ─→ PAIRING ─paired─→ LOGGING_IN ─connected─→ ONLINE ─lost─→ RECONNECTING (the library tries)
                 │ ↑                 │  ↑                  │                  │ too long
                 └─┴─── WAITING ←────┴──┴──────────────────┴──────────────────┘
    any ─→ ENDED: logged out, replaced, banned, failed; a person or an API call starts it again
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from session_host.journal import JournalFull
from session_host.whatsapp.port import (
    Banned,
    ClientEvent,
    Connected,
    ConnectFailed,
    Disconnected,
    Ended,
    JournalFailed,
    KeepAliveLost,
    KeepAliveRestored,
    LoggedOut,
    Outdated,
    Paired,
    PairFailed,
    PasskeyAsked,
    Profile,
    ProxyChanged,
    QrEnded,
    QrShown,
    Replaced,
)
from shared.domain.session import SessionStatus

# The library shows six codes and then gives up: the first for 60 s, the others for 20 s.
FIRST_QR_S: Final = 60.0
NEXT_QR_S: Final = 20.0
CODES_OF_A_SET: Final = 6
SET_S: Final = FIRST_QR_S + (CODES_OF_A_SET - 1) * NEXT_QR_S
# A person who wants to pair has so long; after that somebody must ask for it again.
PAIRING_S: Final = 600.0
# From the first packet to "logged in". Pairing includes the upload of 812 keys.
LOGIN_S: Final = 60.0
# The library's own delays grow without bound (2, 4, 6 s, …); ours start again from the beginning.
RECONNECT_S: Final = 60.0
# What a user reads as the reason of the status: which fault it is, and what mends it.
DISK_FULL: Final = "disk_full: the session host's disk (ZAPHUB_DATA_DIR) is full; make room and it connects by itself"
# Two pings without an answer: 40 to 60 s. The library alone would wait for three minutes.
MISSES: Final = 2
# A host that takes over a session may find the login of its former host still trying: for so long after it began, one
# "replaced" is answered by one more login. A second one is somebody else, and is not fought.
TAKEOVER_S: Final = 60.0
# After the end of a ban, as clocks differ.
BAN_MARGIN_S: Final = 5.0
# WhatsApp refuses this version of the library; the host may have been renewed by then.
OUTDATED_S: Final = 900.0
# 1, 2, 4, 8, 16, 32, then 60 s between our own attempts.
FIRST_DELAY_S: Final = 1.0
MOST_DELAY_S: Final = 60.0


class Phase(StrEnum):
    """Where a session is inside its host; its status is what users see of that."""

    IDLE = "idle"
    PAIRING = "pairing"
    LOGGING_IN = "logging_in"
    ONLINE = "online"
    RECONNECTING = "reconnecting"
    WAITING = "waiting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`device_jid` None: not linked. `due_at`: when to look again, None for never."""

    phase: Phase = Phase.IDLE
    device_jid: str | None = None
    code_phone: str | None = None  # pair by a code for this phone rather than by QR alone
    codes: int = 0  # shown since pairing began
    codes_of_set: int = 0
    is_set_void: bool = False  # a demand for a passkey came: no phone takes the other codes of this set
    set_ends_at: float = 0.0  # when the library stops showing codes, and a code to type ends too
    pairing_ends_at: float = 0.0
    failures: int = 0  # attempts in a row that did not get online
    takeover_ends_at: float = 0.0  # until then a "replaced" may come of our own former host
    due_at: float | None = None


# ---- what the host itself tells the machine


@dataclass(frozen=True, slots=True)
class Opened:
    """The lease is ours: begin."""


@dataclass(frozen=True, slots=True)
class Due:
    """`due_at` has come."""


@dataclass(frozen=True, slots=True)
class DeviceGone:
    """The store has no keys for the device."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The client could not even begin: its store is away, or the library refused."""

    error: str


@dataclass(frozen=True, slots=True)
class StoreLost:
    """Postgres, and with it the device store, is away: what came in now could not be decrypted, but would be acked."""


@dataclass(frozen=True, slots=True)
class StoreBack:
    """The store answers again."""


Event = ClientEvent | Opened | Due | DeviceGone | StartFailed | StoreLost | StoreBack


# ---- what the host does


@dataclass(frozen=True, slots=True)
class Start:
    """Make a client for the device, or one that pairs, and start it."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the client, if there is one."""


@dataclass(frozen=True, slots=True)
class Move:
    to: SessionStatus
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ShowQr:
    code: str
    attempt: int
    lives_s: float


@dataclass(frozen=True, slots=True)
class AskPairCode:
    phone: str


@dataclass(frozen=True, slots=True)
class Link:
    """Record the device that was linked; another number than before cancels what was parked for the old one."""

    device_jid: str
    push_name: str | None


@dataclass(frozen=True, slots=True)
class Describe:
    """Record what the store knows of the device."""

    profile: Profile


@dataclass(frozen=True, slots=True)
class ForgetDevice:
    """The device is gone: clear its JID."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """A host may open it by itself then, though it has ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Give the lease back: nothing more for a host to do."""


Action = Start | Stop | Move | ShowQr | AskPairCode | Link | Describe | ForgetDevice | RetryAfter | GiveUp
Decision = tuple[State, tuple[Action, ...]]

S = SessionStatus


def decide(state: State, event: Event, *, now_s: float, utc: datetime) -> Decision:
    """The next state and what to do, in order. An event that means nothing here changes nothing."""
    if state.phase is Phase.ENDED:
        return state, ()
    match event:
        case Opened() | Due() | StoreBack():
            return _HOSTS_WORD[type(event)](state, now_s)
        case QrShown() | QrEnded() | PasskeyAsked() | PairFailed() | Paired():
            return _pairing(state, event, now_s)
        case Replaced() if now_s < state.takeover_ends_at:
            return _again(replace(state, takeover_ends_at=0.0), now_s, reason="former_host_logged_in")
        case LoggedOut() | DeviceGone() | Replaced() | Banned() | Outdated():
            return _ended(state, event, utc)
        case Ended() | StartFailed() | JournalFailed() | StoreLost() | ProxyChanged():
            return _again(state, now_s, reason=_why_again(event))
        case Profile():
            return state, (Describe(event),)
        case Connected() | Disconnected() | KeepAliveLost():
            return _socket(state, event, now_s)
        case KeepAliveRestored() | ConnectFailed():
            # After a refused login either the library tries again, or its pump ends and `Ended` says so.
            return state, ()
    assert_never(event)


_WHY_AGAIN: Final[dict[type[Ended | StartFailed | JournalFailed | StoreLost | ProxyChanged], str]] = {
    Ended: "library_ended",
    StartFailed: "start_failed",
    JournalFailed: "journal_failed",
    StoreLost: "store_away",
    ProxyChanged: "proxy_changed",
}


def _why_again(event: Ended | StartFailed | JournalFailed | StoreLost | ProxyChanged) -> str:
    if isinstance(event, JournalFailed) and event.error == JournalFull.__name__:
        return DISK_FULL
    return _WHY_AGAIN[type(event)]


def _ended(state: State, event: LoggedOut | DeviceGone | Replaced | Banned | Outdated, utc: datetime) -> Decision:
    match event:
        case LoggedOut():
            return _end(state, S.LOGGED_OUT, event.reason, forget=True)
        case DeviceGone():
            return _end(state, S.LOGGED_OUT, "device_gone", forget=True)
        case Replaced():
            return _end(state, S.REPLACED, "logged_in_elsewhere")
        case Banned():
            until_s = event.expires_in_s + BAN_MARGIN_S if event.expires_in_s > 0 else None
            return _end(state, S.BANNED, _ban(event, utc), retry_after_s=until_s)
        case Outdated():
            return _outdated(state)


def _socket(state: State, event: Connected | Disconnected | KeepAliveLost, now_s: float) -> Decision:
    match event:
        case Connected():
            if state.phase in {Phase.PAIRING, Phase.WAITING, Phase.IDLE}:
                return state, ()
            return replace(state, phase=Phase.ONLINE, failures=0, due_at=None), (Move(S.CONNECTED),)
        case Disconnected():
            return _disconnected(state, now_s)
        case KeepAliveLost():
            if event.misses < MISSES or state.phase is not Phase.ONLINE:
                return state, ()
            return _again(state, now_s, reason="keepalive_lost")


def _opened(state: State, now_s: float) -> Decision:
    if state.device_jid is None:
        ends_at = now_s + PAIRING_S
        started = replace(state, phase=Phase.PAIRING, pairing_ends_at=ends_at, due_at=ends_at)
        return _new_set(started), (Move(S.INITIALIZING), Start())
    begun = replace(state, phase=Phase.LOGGING_IN, due_at=now_s + LOGIN_S, takeover_ends_at=now_s + TAKEOVER_S)
    return begun, (Move(S.CONNECTING), Start())


def _due(state: State, now_s: float) -> Decision:
    if state.due_at is None or now_s < state.due_at:
        return state, ()
    match state.phase:
        case Phase.PAIRING:
            return _pairing_expired(state)
        case Phase.WAITING if state.device_jid is None:
            if now_s >= state.pairing_ends_at:
                return _pairing_expired(state)
            return _new_set(replace(state, phase=Phase.PAIRING, due_at=state.pairing_ends_at)), (Start(),)
        case Phase.WAITING:
            return replace(state, phase=Phase.LOGGING_IN, due_at=now_s + LOGIN_S), (Move(S.CONNECTING), Start())
        case Phase.LOGGING_IN | Phase.RECONNECTING:
            return _again(state, now_s, reason="no_answer")
        case Phase.IDLE | Phase.ONLINE | Phase.ENDED:
            return replace(state, due_at=None), ()


def _new_set(state: State) -> State:
    """As a client begins that shows codes."""
    return replace(state, codes_of_set=0, is_set_void=False)


def _pairing(state: State, event: QrShown | QrEnded | PasskeyAsked | PairFailed | Paired, now_s: float) -> Decision:
    if state.phase is not Phase.PAIRING:
        return state, ()
    match event:
        case QrShown() if state.is_set_void:
            return state, ()
        case QrShown():
            is_first = state.codes_of_set == 0
            shown = replace(
                state,
                codes=state.codes + 1,
                codes_of_set=state.codes_of_set + 1,
                set_ends_at=now_s + SET_S if is_first else state.set_ends_at,
            )
            show = ShowQr(event.code, shown.codes, FIRST_QR_S if is_first else NEXT_QR_S)
            ask = (AskPairCode(state.code_phone),) if state.code_phone and is_first else ()
            return shown, (Move(S.QR_PENDING), show, *ask)
        case QrEnded():
            if event.outcome == "success":
                return state, ()
            if event.outcome == "err-client-outdated":
                return _outdated(state)
            return _again(state, now_s, reason="qr_not_scanned")
        case PasskeyAsked():
            # The library made new keys for it, and goes on to show codes with the old ones: a phone that scans them is
            # refused. Whoever owns the phone may turn the passkey off and scan the next set.
            return replace(state, is_set_void=True), (Move(S.PASSKEY_REQUIRED, event.step),)
        case PairFailed():
            return _again(state, now_s, reason="pairing_failed")
        case Paired():
            linked = replace(
                state, phase=Phase.LOGGING_IN, device_jid=event.device_jid, failures=0, due_at=now_s + LOGIN_S
            )
            return linked, (Link(event.device_jid, event.push_name), Move(S.CONNECTING))


def _disconnected(state: State, now_s: float) -> Decision:
    if state.phase is Phase.ONLINE:
        lost = replace(state, phase=Phase.RECONNECTING, due_at=now_s + RECONNECT_S)
        return lost, (Move(S.DISCONNECTED, "connection_lost"),)
    if state.phase is Phase.PAIRING:
        # The library does not come back by itself before it is paired.
        return _again(state, now_s, reason="connection_lost")
    return state, ()


def _again(state: State, now_s: float, *, reason: str) -> Decision:
    """Stop this client and make another after a pause."""
    if state.phase in {Phase.IDLE, Phase.WAITING}:
        return state, ()
    if state.device_jid is None and now_s >= state.pairing_ends_at:
        return _pairing_expired(state)
    was_online = state.phase in {Phase.ONLINE, Phase.RECONNECTING}
    # A session that was online, and a set of codes that nobody scanned, begin again at once.
    is_gentle = was_online or reason == "qr_not_scanned"
    failures = 0 if is_gentle else state.failures + 1
    waiting = replace(state, phase=Phase.WAITING, failures=failures, due_at=now_s + delay_s(failures))
    moves = () if state.device_jid is None else (Move(S.DISCONNECTED, reason),)
    return waiting, (*moves, Stop())


def _store_back(state: State, now_s: float) -> Decision:
    """Whatever failed meanwhile failed because of the store: begin again at once."""
    return (replace(state, failures=0, due_at=now_s), ()) if state.phase is Phase.WAITING else (state, ())


def _pairing_expired(state: State) -> Decision:
    return _end(state, S.FAILED, "PAIRING_EXPIRED")


def _outdated(state: State) -> Decision:
    # A device that is linked comes back by itself with a newer library; a pairing needs its person anyway.
    return _end(state, S.FAILED, "CLIENT_OUTDATED", retry_after_s=OUTDATED_S if state.device_jid else None)


def _end(
    state: State, to: SessionStatus, reason: str, *, forget: bool = False, retry_after_s: float | None = None
) -> Decision:
    ended = replace(state, phase=Phase.ENDED, due_at=None, device_jid=None if forget else state.device_jid)
    forgets = (ForgetDevice(),) if forget else ()
    retries = () if retry_after_s is None else (RetryAfter(retry_after_s),)
    return ended, (Stop(), *forgets, Move(to, reason), *retries, GiveUp())


_HOSTS_WORD: Final[dict[type[Opened | Due | StoreBack], Callable[[State, float], Decision]]] = {
    Opened: _opened,
    Due: _due,
    StoreBack: _store_back,
}


def _ban(event: Banned, utc: datetime) -> str:
    if event.expires_in_s <= 0:
        return event.code
    until = (utc + timedelta(seconds=event.expires_in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{event.code} until {until}"


def delay_s(failures: int) -> float:
    """The pause before the next attempt: 1, 1, 2, 4, 8, 16, 32, then 60 s after 0, 1, 2, … failures."""
    return min(FIRST_DELAY_S * 2.0 ** min(max(failures - 1, 0), 10), MOST_DELAY_S)
