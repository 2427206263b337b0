"""What this process sends and has sent, by try: a repeat joins the first call, and a lookup says what became of it.

A try is (message, send number). WhatsApp knows no idempotency key, so these are the rules that keep a message from
going out twice (DESIGN D6).
"""

import asyncio
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, Protocol
from uuid import UUID

import structlog

from session_host.whatsapp.port import Outgoing, OutgoingFile, WhatsAppClient
from shared import failpoints
from shared.domain.ids import ConnectionId, HostId, WireId
from shared.hosts.protocol import (
    Ambiguous,
    Busy,
    CannotSay,
    Left,
    Lookup,
    LookupAnswer,
    NeverLeft,
    NotConnected,
    NotOwner,
    Refused,
    Running,
    Send,
    SendAnswer,
    Sent,
)

# Tries that ended well or were refused are forgotten beyond so many; those in doubt never are.
_KEPT: Final = 20_000

Key = tuple[UUID, int]
# What may become of a try that was begun here.
Answer = Sent | Refused | Ambiguous | NotConnected

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """A session, as sends see it."""

    @property
    def connection_id(self) -> ConnectionId: ...
    @property
    def epoch(self) -> int: ...
    @property
    def device_jid(self) -> str | None: ...
    @property
    def may_send(self) -> bool:
        """Online, and by this process's own clock the lease has not lapsed."""
        ...

    @property
    def has_logged_in(self) -> bool:
        """Whether WhatsApp accepted a login of this device in this epoch."""
        ...

    @property
    def client(self) -> WhatsAppClient | None: ...


class Traces(Protocol):
    """Knows which tries got as far as a frame."""

    async def wire_id_of(self, secret: bytes, *, device_jid: str) -> WireId | None: ...


class FilesOfMessages(Protocol):
    """Has the files that messages carry."""

    def opened(self, media_id: str) -> AbstractAsyncContextManager[OutgoingFile | Refused]: ...


class Numbers(Protocol):
    """Knows by which JID WhatsApp wants a message addressed."""

    async def address(self, client: WhatsAppClient, command: Send) -> str | Refused | NotConnected: ...
    async def refused(self, command: Send, answer: Refused) -> Refused: ...


@dataclass(slots=True)
class _Try:
    connection_id: ConnectionId
    running: "asyncio.Task[Answer] | None"
    answer: Answer | None = None


class SendDesk:
    """All sends of this process. `begin` starts a task that outlives the HTTP request that asked for it."""

    def __init__(
        self, host: HostId, store: Traces, numbers: Numbers, files: FilesOfMessages, group: asyncio.TaskGroup
    ) -> None:
        self._host = host
        self._store = store
        self._numbers = numbers
        self._files = files
        self._group = group
        self._tries: OrderedDict[Key, _Try] = OrderedDict()
        self._sending: dict[ConnectionId, Key] = {}
        # Looked up and found not sent: a command that comes late must not send any more.
        self._closed: OrderedDict[Key, None] = OrderedDict()
        # Ended offline, before their frame, and may come again; the library may have stored a wire id all the same.
        self._unsent: OrderedDict[Key, None] = OrderedDict()

    def is_sending(self, connection_id: ConnectionId) -> bool:
        return connection_id in self._sending

    def in_flight(self) -> list[Key]:
        """The tries that run now."""
        return list(self._sending.values())

    async def send(self, command: Send, session: Sender | None) -> SendAnswer:
        """Send, or join the same try, or say why not. A caller that goes away does not stop what it began."""
        key = (command.message_id, command.send_no)
        if (known := self._tries.get(key)) is not None:
            return known.answer if known.answer is not None else await self._join(known)
        if key in self._closed:
            return Refused(code="UNAVAILABLE", detail="This try was looked up and found not sent before it arrived.")
        if session is None or session.epoch != command.epoch:
            return NotOwner()
        client = session.client
        if client is None or not session.may_send:
            return NotConnected()
        if session.connection_id in self._sending:
            return Busy()
        self._sending[session.connection_id] = key
        self._unsent.pop(key, None)
        begun = self._tries[key] = _Try(connection_id=session.connection_id, running=None)
        begun.running = self._group.create_task(self._run(begun, key, command, session, client))
        return await self._join(begun)

    async def lookup(self, command: Lookup, session: Sender | None) -> LookupAnswer:
        """What became of a try, wherever it was begun. Raises Unavailable when the device store does not answer."""
        key = (command.message_id, command.send_no)
        known = self._tries.get(key)
        if known is not None and known.answer is None:
            return Running()
        if known is not None and isinstance(known.answer, Sent):
            return known.answer
        if known is not None and isinstance(known.answer, Refused):
            return NeverLeft()
        if key in self._unsent:
            _remember(self._closed, key)
            return NeverLeft()
        wire_id = await self._store.wire_id_of(command.secret, device_jid=command.send_device)
        if wire_id is not None:
            return Left(wire_id=wire_id)
        if self._tries.get(key) is not known:
            # It arrived while the store was asked.
            return Running()
        return self._without_a_row(command, key, known, session)

    def _without_a_row(self, command: Lookup, key: Key, known: _Try | None, session: Sender | None) -> LookupAnswer:
        """No row proves that nothing left only when nothing can have skipped the row, or leave later."""
        if known is not None:
            return CannotSay(detail="The try ended in doubt and the store has no trace of it.")
        if session is None:
            return CannotSay(detail="The session has no host now.")
        if session.device_jid != command.send_device:
            return CannotSay(detail="The device was unlinked since, and its traces with it.")
        # The same process, which neither runs nor finished it; from here on it never will.
        is_here = command.send_host == self._host
        # WhatsApp ended the other process's login when it accepted ours.
        is_superseded = session.epoch > command.send_epoch and session.has_logged_in
        if not (is_here or is_superseded):
            return CannotSay(detail="The host that may still hold the try has not been superseded yet.")
        _remember(self._closed, key)
        return NeverLeft()

    async def settle(self, connection_id: ConnectionId, *, within_s: float) -> None:
        """Give a send of this session time to end, before its socket is closed."""
        key = self._sending.get(connection_id)
        if key is None or (running := self._tries[key].running) is None:
            return
        await asyncio.wait({running}, timeout=within_s)

    async def _join(self, one: _Try) -> Answer:
        assert one.running is not None
        return await asyncio.shield(one.running)

    async def _run(self, begun: _Try, key: Key, command: Send, session: Sender, client: WhatsAppClient) -> Answer:
        answer: Answer = Ambiguous(detail="The host was stopped while it sent.")
        try:
            answer = await self._deliver(command, session, client)
        except Exception as error:
            log.exception("send_failed", session_id=str(session.connection_id), error=type(error).__name__)
            answer = Ambiguous(detail=f"The host failed while it sent ({type(error).__name__}).")
        finally:
            begun.answer, begun.running = answer, None
            self._sending.pop(session.connection_id, None)
            if isinstance(answer, NotConnected):
                # Nothing left: the same try may come again when the session is back.
                self._tries.pop(key, None)
                _remember(self._unsent, key)
            self._forget()
        return answer

    async def _deliver(self, command: Send, session: Sender, client: WhatsAppClient) -> Answer:
        to = await self._numbers.address(client, command)
        if not isinstance(to, str):
            return to
        media_id = command.payload.get("media_id")
        # All that came before may have taken long: a lease that lapsed meanwhile may be another host's by now.
        if not session.may_send or session.epoch != command.epoch:
            return NotConnected()
        failpoints.reach("host_before_send")
        answer = await client.send(
            Outgoing(
                to=to,
                type=command.type,
                payload=command.payload,
                secret=command.secret,
                reply_to=command.reply_to,
                mentions=tuple(command.mentions),
                file=None if media_id is None else partial(self._files.opened, media_id),
            )
        )
        failpoints.reach("host_after_send")
        if isinstance(answer, Refused) and answer.code == "NUMBER_NOT_ON_WHATSAPP":
            return await self._numbers.refused(command, answer)
        return answer

    def _forget(self) -> None:
        surplus = len(self._tries) - _KEPT
        if surplus <= 0:
            return
        settled = (key for key, one in self._tries.items() if isinstance(one.answer, Sent | Refused))
        for key in list(islice(settled, surplus)):
            del self._tries[key]


def _remember(keys: OrderedDict[Key, None], key: Key) -> None:
    keys[key] = None
    while len(keys) > _KEPT:
        keys.popitem(last=False)
