"""Where the Go library calls into Python: from its own threads, with raw bytes, once per event and in order.

A message is written down inside this call, before the library goes on to the next event; everything else is handed to
the loop. neonize would instead run a coroutine per event, all at once, and drop its exceptions.
"""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog
from neonize.aioze.client import NewAClient
from neonize.aioze.events import Event as NeonizeEvent
from neonize.events import EVENT_TO_INT, INT_TO_EVENT
from neonize.proto import Neonize_pb2 as envelope

from session_host.whatsapp import inbound
from session_host.whatsapp.backlog import Backlog
from session_host.whatsapp.gate import Gate
from session_host.whatsapp.port import (
    Banned,
    CallOffered,
    ClientEvent,
    Connected,
    ConnectFailed,
    Disconnected,
    Emit,
    Envelope,
    JournalFailed,
    KeepAliveLost,
    KeepAliveRestored,
    LoggedOut,
    OnCall,
    Outdated,
    Paired,
    PairFailed,
    PasskeyAsked,
    Profile,
    QrEnded,
    QrShown,
    Record,
    Replaced,
    WireRecord,
)

# Any in this module: neonize ships no types.

Told = TypeVar("Told")

log = structlog.get_logger(__name__)

_REASONS: Final = envelope.ConnectFailureReason.DESCRIPTOR.values_by_number
_BANS: Final = envelope.TemporaryBan.TempBanReason.DESCRIPTOR.values_by_number


class Bridge:
    """Takes one client's events off the library's threads. `first_sign` is set by the first of them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gate: Gate,
        *,
        emit: Emit,
        record: Record,
        on_call: OnCall = lambda _: None,
    ) -> None:
        self._loop = loop
        self._gate = gate
        self._emit = emit
        self._on_call = on_call
        self._record = record
        self.first_sign = asyncio.Event()
        self.is_closed = False
        self.is_removed = False  # from the library's map, or about to be
        self.has_logged_in = False
        self._delivering = False
        self._last_at = 0.0
        self._backlog = Backlog(lambda: time.time_ns() // 1_000_000)

    def close(self) -> None:
        """Tell the session nothing more. What comes in from the wire is still written down."""
        self.is_closed = True

    def quiet_for_s(self) -> float:
        """How long the library has delivered nothing."""
        return 0.0 if self._delivering else time.monotonic() - self._last_at

    def emit(self, event: ClientEvent) -> None:
        """Tell the session, on the loop; from any thread."""
        self._on_the_loop(self._emit, event)

    def deliver(self, code: int, raw: bytes) -> None:
        """One event of the library. Runs in its thread and never raises: nobody there could catch it."""
        self._delivering = True
        try:
            self._signal()
            if code in _FROM_THE_WIRE:
                self._write_down(code, raw)
            elif code == _BACKLOG_ENDS:
                self._backlog.end()
            elif code in _CALLS:
                self._on_the_loop(self._on_call, _call(INT_TO_EVENT[code].FromString(raw)))
            elif (translate := _TRANSLATIONS.get(code)) is not None:
                self.has_logged_in = self.has_logged_in or code == _CODE["Connected"]
                event = translate(INT_TO_EVENT[code].FromString(raw))
                self._note(event)
                if event is not None:
                    self.emit(event)
        except Exception as error:
            log.exception("library_event_failed", code=code, error=type(error).__name__)
            self.emit(JournalFailed(type(error).__name__))
        finally:
            self._last_at = time.monotonic()
            self._delivering = False

    def _write_down(self, code: int, raw: bytes) -> None:
        found: WireRecord | None = _FROM_THE_WIRE[code](INT_TO_EVENT[code].FromString(raw))
        if found is None:
            return
        if isinstance(found, Envelope) and self._backlog.holds(found.timestamp_ms):
            found = replace(found, backfilled=True)
        try:
            self._record(found)
        except OSError as error:
            # WhatsApp may have the acknowledgement of this one already; with the socket closed it keeps the next.
            log.error("journal_append_failed", error=type(error).__name__)  # noqa: TRY400 - the text may hold a path
            self.emit(JournalFailed(type(error).__name__))

    def _note(self, event: ClientEvent | None) -> None:
        match event:
            case Disconnected() | KeepAliveLost():
                self._backlog.begin()
            case Connected():
                self._backlog.log_in()
            case KeepAliveRestored():
                self._backlog.end()

    def _signal(self) -> None:
        if not self.first_sign.is_set():
            try:
                self._loop.call_soon_threadsafe(self.first_sign.set)
            except RuntimeError:
                return

    def _on_the_loop(self, hear: Callable[[Told], None], told: Told) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, hear, told)
        except RuntimeError:
            # The loop is closed: the process is ending.
            return

    def _tell(self, hear: Callable[[Told], None], told: Told) -> None:
        if not self.is_closed:
            hear(told)

    def told_qr(self, code: str) -> None:
        self._signal()
        self.emit(QrShown(code))

    def told_login(self, outcome: str) -> None:
        """The codes are over. When this returns the library looks its client up: without one it ends the process.

        So it returns only while the client is there and stays, and never for one that was stopped meanwhile.
        """
        self._signal()
        if not self._may_look_up():
            threading.Event().wait()
        # The library's two words for it; the login goes on, and its end has a word of its own.
        self.emit(PasskeyAsked(outcome) if outcome.startswith("passkey-") else QrEnded(outcome))

    def _may_look_up(self) -> bool:
        try:
            return asyncio.run_coroutine_threadsafe(self._admitted(), self._loop).result()
        except (RuntimeError, CancelledError):
            # The loop is closed: the process is ending.
            return False

    async def _admitted(self) -> bool:
        await self._gate.admit()
        return not self.is_removed


class _Events(NeonizeEvent):  # type: ignore[misc]  # neonize ships no types
    """Subscribes to what we use, and hands raw events to the bridge."""

    def __init__(self, client: Any, bridge: Bridge) -> None:  # noqa: ANN401 - neonize ships no types
        super().__init__(client)
        self._bridge = bridge
        self.list_func = dict.fromkeys([*_TRANSLATIONS, *_FROM_THE_WIRE, *_CALLS, _BACKLOG_ENDS])

    def execute(self, _uuid: bytes, binary: int, size: int, code: int) -> None:
        self._bridge.deliver(code, ctypes.string_at(binary, size))


class BridgedClient(NewAClient):  # type: ignore[misc]  # neonize ships no types
    """neonize's client, whose callbacks lead to a bridge."""

    def __init__(self, name: str, *, jid: Any, props: Any, uuid: str, new_device: bool) -> None:  # noqa: ANN401
        super().__init__(name, jid=jid, props=props, uuid=uuid, new_device=new_device)
        # With a JID neonize would key the client by its number, so that two devices of one phone collide, and a
        # client that was stopped with its successor.
        self.uuid = uuid.encode()
        # It would stop whoever has the key when Python drops the object.
        self._stop_finalizer.detach()

    def attach(self, bridge: Bridge) -> None:
        """Before `connect`, which copies the list of events."""
        self._bridge = bridge
        self.event = _Events(self, bridge)

    # These two are private by name mangling, and neonize's second does nothing: a login's outcome is told nowhere else.
    def _NewAClient__onQr(self, _uuid: int, code: int) -> None:  # noqa: N802 - as above
        self._bridge.told_qr(ctypes.string_at(code).decode())

    def _NewAClient__onLoginStatus(self, _uuid: int, status: int) -> None:  # noqa: N802 - as above
        self._bridge.told_login(ctypes.string_at(status).decode())


def jid_of(text: str) -> Any:  # noqa: ANN401 - neonize ships no types
    """`user@server` or `user:device@server` as the library wants it."""
    name, _, server = text.partition("@")
    user, _, device = name.partition(":")
    return envelope.JID(User=user, RawAgent=0, Device=int(device or 0), Integrator=0, Server=server, IsEmpty=False)


def _profile(event: Any) -> ClientEvent | None:  # noqa: ANN401 - neonize ships no types
    if not event.JID.User:
        return None
    lid = inbound.text_of(event.LID) if event.LID.User else None
    return Profile(inbound.device_text_of(event.JID), lid, event.PushName or None)


def _paired(event: Any) -> ClientEvent:  # noqa: ANN401 - neonize ships no types
    if event.Status == envelope.PairStatus.SUCCESS:
        return Paired(inbound.device_text_of(event.ID))
    return PairFailed("WhatsApp or the phone refused the pairing")


def _banned(event: Any) -> ClientEvent:  # noqa: ANN401 - neonize ships no types
    # Seconds or nanoseconds, by the library's version; no ban lasts for thirty years.
    expires = event.Expire if event.Expire < 10**9 else event.Expire // 10**9
    return Banned(_BANS[event.Code].name.lower(), max(int(expires), 0))


def _refused(event: Any) -> ClientEvent:  # noqa: ANN401 - neonize ships no types
    if event.Reason == envelope.ConnectFailureReason.CLIENT_OUTDATED:
        return Outdated()
    return ConnectFailed(_REASONS[event.Reason].name.lower())


def _logged_out(event: Any) -> ClientEvent:  # noqa: ANN401 - neonize ships no types
    return LoggedOut(_REASONS[event.Reason].name.lower())


def _call(event: Any) -> CallOffered:  # noqa: ANN401 - neonize ships no types
    meta = event.basicCallMeta
    creator, other = meta.callCreator, meta.callCreatorAlt
    known = other if creator.Server == inbound.LIDS and other.Server == inbound.NUMBERS else creator
    return CallOffered(
        call_id=meta.callID,
        caller=inbound.text_of(known),
        wire_caller=inbound.text_of(creator),
        # Only a notice says of what type the call is.
        is_group=getattr(event, "type", "") == "group",
        timestamp_ms=inbound.milliseconds(meta.timestamp),
    )


_CODE: Final[dict[str, int]] = {type_.__name__: code for type_, code in EVENT_TO_INT.items()}

_TRANSLATIONS: Final[dict[int, Callable[[Any], ClientEvent | None]]] = {
    _CODE["Device"]: _profile,
    _CODE["PairStatus"]: _paired,
    _CODE["Connected"]: lambda _: Connected(),
    _CODE["KeepAliveTimeout"]: lambda event: KeepAliveLost(event.ErrorCount),
    _CODE["KeepAliveRestored"]: lambda _: KeepAliveRestored(),
    _CODE["LoggedOut"]: _logged_out,
    _CODE["StreamReplaced"]: lambda _: Replaced(),
    _CODE["TemporaryBan"]: _banned,
    _CODE["ConnectFailure"]: _refused,
    _CODE["ClientOutdated"]: lambda _: Outdated(),
    _CODE["Disconnected"]: lambda _: Disconnected(),
}
_BACKLOG_ENDS: Final = _CODE["OfflineSyncCompleted"]
_CALLS: Final = frozenset({_CODE["CallOffer"], _CODE["CallOfferNotice"]})
_FROM_THE_WIRE: Final[dict[int, Callable[[Any], WireRecord | None]]] = {
    _CODE["Message"]: inbound.message,
    _CODE["Receipt"]: inbound.receipt,
    _CODE["UndecryptableMessage"]: inbound.undecryptable,
}
