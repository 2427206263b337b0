"""One session on this host: feeds the state machine what happens and does what it decides, one event at a time."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from session_host import state as machine
from session_host.means import Means
from session_host.records import Change
from session_host.state import (
    Action,
    AskPairCode,
    Describe,
    DeviceGone,
    Due,
    Event,
    ForgetDevice,
    GiveUp,
    Link,
    Move,
    Opened,
    Phase,
    RetryAfter,
    ShowQr,
    Start,
    StartFailed,
    State,
    Stop,
)
from session_host.turns import Turn
from session_host.whatsapp.port import ClientSpec, DeviceMissing, Record, WhatsAppClient
from shared.db.leases import Lease
from shared.db.pool import AWAY, COLLISION
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId
from shared.domain.session import SessionStatus
from shared.hosts.protocol import CodeShown, NotConnected, PairCodeAnswer, Refused

# The library stops in some milliseconds, or not at all (a dial that hangs, a QR code on show).
STOP_S: Final = 4.0
# Rows that could not be written, because Postgres was away, are tried again this often.
_WRITE_AGAIN_S: Final = 0.5
# A phone that was linked just now sends its history; the next session begins after so long.
_FIRST_HISTORY_S: Final = 3.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _TurnCame:
    """It may begin now: others that were before it are through."""


class Session:
    """Run `run` in a task of its own; it returns when the session has ended here, and its lease is given back."""

    def __init__(self, lease: Lease, means: Means, *, record: Record) -> None:
        self._lease = lease
        self._means = means
        self._record = record
        phone = lease.pairing_phone if lease.pairing_method == "code" else None
        self._state = State(device_jid=lease.device_jid, code_phone=phone)
        self._events: asyncio.Queue[Event | _TurnCame] = asyncio.Queue()
        self._beginning = Turn(means.turns, lambda: self.tell(_TurnCame()))
        self._withheld: Event | None = None  # what began it, while it waits for its turn
        self._client: WhatsAppClient | None = None
        self._attempt = 0  # events of an earlier client are late
        self._turn = asyncio.Lock()  # one event, or one command, at a time
        self._unwritten: list[Change] = []
        self._has_logged_in = False
        self._is_new = lease.device_jid is None
        self._is_leaving = False
        self._is_over = asyncio.Event()
        self._is_online = asyncio.Event()

    # ---- as commands and sends see it

    @property
    def connection_id(self) -> ConnectionId:
        return self._lease.connection_id

    @property
    def epoch(self) -> int:
        return self._lease.epoch

    @property
    def device_jid(self) -> str | None:
        return self._state.device_jid

    @property
    def phase(self) -> Phase:
        return self._state.phase

    @property
    def client(self) -> WhatsAppClient | None:
        return self._client

    @property
    def may_send(self) -> bool:
        return self._state.phase is Phase.ONLINE and not self._is_leaving and self._means.fence.holds()

    @property
    def has_logged_in(self) -> bool:
        return self._has_logged_in

    def leave(self) -> None:
        """Take no send any more: the session goes to another host, or has gone. What is under way goes on."""
        self._is_leaving = True

    def tell(self, event: Event | _TurnCame) -> None:
        """Something happened; it is seen to in order."""
        self._events.put_nowait(event)

    async def run(self) -> None:
        """See to events until the session ends."""
        self.tell(Opened())
        try:
            while not self._is_over.is_set():
                event = self._in_turn(await self._next())
                async with self._turn:
                    if event is not None and not self._is_over.is_set():
                        await self._see_to(event)
                    await self._write_down()
        finally:
            self._beginning.release()

    async def pair_code(self, phone: str) -> PairCodeAnswer:
        """A code to type on the phone, shown on the connection too; NotConnected unless a QR code is on show."""
        async with self._turn:
            if self._state.phase is not Phase.PAIRING or not self._state.codes_of_set or self._client is None:
                return NotConnected()
            # A new set of codes gets a new code for the same phone.
            self._state = replace(self._state, code_phone=phone)
            return await self._ask_pair_code(phone)

    async def wait_online(self, *, within_s: float) -> bool:
        """Whether it is logged in, or is so within that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._is_online.wait()
        except TimeoutError:
            return False
        return True

    async def close(self, to: SessionStatus, *, reason: str) -> bool:
        """Close the socket, move the session and give the lease back. The phone stays linked.

        False: it had ended here before its turn came, and may be another host's.
        """
        async with self._turn:
            if self._is_over.is_set():
                return False
            await self._finish([Move(to, reason), GiveUp()])
            return True

    async def logout(self, to: SessionStatus, *, reason: str) -> bool | None:
        """Unlink at the phone, then close. False: not confirmed, and nothing was changed; None: not connected."""
        async with self._turn:
            if self._client is None or not self.may_send:
                return None
            if not await self._client.logout():
                return False
            await self._finish([ForgetDevice(), Move(to, reason), GiveUp()])
            return True

    async def drop(self) -> None:
        """The lease is another's, or the process ends: close the socket and write nothing more."""
        async with self._turn:
            self._is_over.set()
            self._unwritten.clear()
            await self._stop_client()
        self.tell(Due())

    # ---- the loop's parts

    def _in_turn(self, event: Event | _TurnCame | None) -> Event | None:
        """What begins a client waits until few enough others begin theirs."""
        if isinstance(event, _TurnCame):
            event, self._withheld = self._withheld, None
            return event
        may_begin = isinstance(event, Opened | Due) and self._state.phase in {Phase.IDLE, Phase.WAITING}
        if not may_begin or self._is_over.is_set() or self._beginning.ask():
            return event
        self._withheld = event
        return None

    def _keep_turn(self, before: Phase) -> None:
        """Give it back once it is through, or waits for a person, the library or another try."""
        if self._withheld is not None and self._state.phase is not Phase.ENDED:
            # It has none yet, and keeps its place.
            return
        match self._state.phase:
            case Phase.LOGGING_IN:
                if before is Phase.PAIRING:
                    # A code was scanned: that cannot wait.
                    self._beginning.take()
            case Phase.ONLINE if self._is_new:
                self._is_new = False
                self._beginning.release(after_s=_FIRST_HISTORY_S)
            case Phase.ONLINE if before is Phase.ONLINE:
                return
            case Phase.PAIRING if not self._state.codes_of_set:
                return
            case _:
                self._beginning.release()

    async def _next(self) -> Event | _TurnCame | None:
        """The next event; Due when its time has come; None when only unwritten rows are to be tried again."""
        timeout_s = None
        if self._unwritten:
            timeout_s = _WRITE_AGAIN_S
        elif self._state.due_at is not None and self._withheld is None:
            timeout_s = max(self._state.due_at - self._means.clock(), 0.0)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._events.get()
        except TimeoutError:
            return None if self._unwritten else Due()

    async def _see_to(self, event: Event) -> None:
        before = self._state.phase
        self._state, actions = machine.decide(self._state, event, now_s=self._means.clock(), utc=self._means.now())
        if self._state.phase is not before:
            log.info(
                "session_phase_changed",
                session_id=str(self.connection_id),
                phase=self._state.phase.value,
                because=type(event).__name__,
            )
        if self._state.phase is Phase.ONLINE:
            self._has_logged_in = True
            self._is_online.set()
        else:
            self._is_online.clear()
        for action in actions:
            await self._do(action)
        self._keep_turn(before)

    async def _do(self, action: Action) -> None:
        match action:
            case Start():
                await self._start_client()
            case Stop():
                await self._stop_client()
            case AskPairCode():
                try:
                    await self._ask_pair_code(action.phone)
                except (*AWAY, *COLLISION, Unavailable) as error:
                    # The next set of codes asks for another one; the QR codes are on show meanwhile.
                    log.warning("pair_code_not_shown", session_id=str(self.connection_id), error=type(error).__name__)
            case Move() | ShowQr() | Link() | Describe() | ForgetDevice() | RetryAfter() | GiveUp():
                self._unwritten.append(action)

    async def _write_down(self) -> None:
        """Write what was decided, in order. What Postgres does not take now stays for later."""
        while self._unwritten:
            action = self._unwritten[0]
            try:
                await self._means.records.write(self._lease, action)
            except (*AWAY, *COLLISION, Unavailable) as error:
                log.warning("session_row_waits", session_id=str(self.connection_id), error=type(error).__name__)
                return
            if not self._unwritten:
                return
            self._unwritten.pop(0)
            if isinstance(action, GiveUp):
                self._is_over.set()

    async def _start_client(self) -> None:
        await self._stop_client()
        if not self._means.fence.holds():
            # Postgres said nothing for long: the session may be another host's.
            self.tell(StartFailed("lease_lapsed"))
            return
        self._attempt += 1
        attempt = self._attempt
        self._means.fence.opening(self)
        client = self._means.make_client(
            ClientSpec(
                connection_id=self.connection_id,
                device_jid=self._state.device_jid,
                emit=lambda event: self.tell(event) if attempt == self._attempt else None,
                record=self._record,
            )
        )
        self._client = client
        try:
            await client.start()
        except DeviceMissing:
            self.tell(DeviceGone())
        except Unavailable as error:
            self.tell(StartFailed(type(error).__name__))

    async def _stop_client(self) -> None:
        self._attempt += 1
        client, self._client = self._client, None
        if client is not None and not await client.stop(deadline_s=STOP_S):
            log.warning("client_leaked", session_id=str(self.connection_id))
            self._means.on_leak()
        self._means.fence.closed(self)

    async def _ask_pair_code(self, phone: str) -> PairCodeAnswer:
        assert self._client is not None
        code = await self._client.pair_code(phone)
        if isinstance(code, Refused | NotConnected):
            log.warning("pair_code_refused", session_id=str(self.connection_id))
            return code
        await self._write_down()
        # It is worth nothing without the socket that it was asked through, and that closes with its set of QR codes.
        ends_at = min(self._state.set_ends_at, self._state.pairing_ends_at)
        lives_s = max(ends_at - self._means.clock(), 0.0)
        await self._means.records.show_pair_code(self._lease, code, lives_s=lives_s)
        return CodeShown(code=code, expires_at=self._means.now() + timedelta(seconds=lives_s))

    async def _finish(self, actions: list[Change]) -> None:
        self._state = replace(self._state, phase=Phase.ENDED, due_at=None)
        await self._stop_client()
        self._unwritten.extend(actions)
        await self._write_down()
        # Wakes `run`, which ends, or goes on trying to write.
        self.tell(Due())
