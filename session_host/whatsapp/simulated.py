"""A WhatsApp inside this process: the same port without the library, for tests, load and where the library cannot run.

It keeps the contract that the real client keeps (tests/contract/hosts): the same events in the same order, one answer
per send, what came in written down before anything else.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from session_host.votes import PollSecret
from session_host.whatsapp.port import (
    Banned,
    CallOffered,
    ClientEvent,
    ClientSpec,
    Connected,
    DeviceMissing,
    Disconnected,
    Inbound,
    JournalFailed,
    LoggedOut,
    Outgoing,
    Paired,
    PasskeyAsked,
    Profile,
    QrEnded,
    QrShown,
    Receipt,
    Replaced,
    WireRecord,
)
from shared.domain.errors import Unavailable
from shared.domain.ids import WireId
from shared.domain.jid import Person, spellings_of
from shared.hosts.protocol import Ambiguous, MediaSource, NotConnected, Refused, Sent, Shown, TypingState

NUMBERS = "@s.whatsapp.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnWire:
    """A message that the simulated server accepted."""

    wire_id: WireId
    session_phone: str
    message: Outgoing


@dataclass(slots=True)
class SimulatedWhatsApp:
    """The server, its phones and its device store. A test says what happens; nothing happens by itself.

    `answers` are given to the next sends in order; without one a send succeeds. An Ambiguous one has left or not by
    `leaves`.
    """

    wire: list[OnWire] = field(default_factory=list)
    not_on_whatsapp: set[str] = field(default_factory=set)
    registered: dict[str, str] = field(default_factory=dict)  # numbers as they are registered, by other spellings
    answers: deque[Refused | Ambiguous] = field(default_factory=deque)
    leaves: bool = True
    is_store_away: bool = False
    signals: list[tuple[str, ...]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # what can be downloaded, by direct path
    asked: int = 0  # numbers that clients asked about
    devices: set[str] = field(default_factory=set)
    traces: dict[bytes, tuple[str, WireId]] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    _online: "dict[str, SimulatedClient]" = field(default_factory=dict)
    _pairing: "dict[str, SimulatedClient]" = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def make_client(self, spec: ClientSpec) -> "SimulatedClient":
        """The factory that a host is given."""
        return SimulatedClient(spec, self)

    # ---- what a person or the server does

    def scan(self, code: str, phone: str) -> str:
        """The phone links whoever shows the code, and the client logs in; returns the device's JID."""
        client = self._pairing.pop(code)
        device = f"{phone}:{next(self._numbers)}{NUMBERS}"
        self.devices.add(device)
        client.spec = replace(client.spec, device_jid=device)
        client.tell(QrEnded("success"))
        client.tell(Paired(device))
        self._log_in(client, device)
        return device

    def inbound(self, phone: str, *, sender: str, text: str) -> WireId:
        """A contact writes to the session."""
        return self.inbound_message(phone, sender=sender, type_="text", content={"text": text, "reply_to": None})

    def inbound_message(self, phone: str, *, sender: str, type_: str, content: Mapping[str, Any]) -> WireId:
        """A contact sends a message of any type; `content` as the journal has it."""
        wire_id = self._wire_id()
        chat = f"{sender}{NUMBERS}"
        found = Inbound(
            wire_id=wire_id,
            chat=chat,
            chat_alias=None,
            sender=chat,
            wire_sender=chat,
            participant=None,
            push_name=None,
            from_me=False,
            type=type_,
            content=content,
            timestamp_ms=int(datetime.now(UTC).timestamp() * 1000),
        )
        self._client_of(phone).write_down(found)
        return wire_id

    def receipt(self, phone: str, wire_id: WireId, status: str) -> None:
        """A contact's phone tells what became of a message."""
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        self._client_of(phone).write_down(Receipt(wire_ids=(wire_id,), status=status, timestamp_ms=now_ms))

    def call(self, phone: str, *, caller: str, call_id: str) -> None:
        """A contact calls the session."""
        jid = f"{caller}{NUMBERS}"
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        self._client_of(phone).spec.on_call(
            CallOffered(call_id=call_id, caller=jid, wire_caller=jid, is_group=False, timestamp_ms=now_ms)
        )

    def expire_code(self, code: str) -> None:
        """Nobody scanned the last code of a set."""
        self._pairing.pop(code).tell(QrEnded("timeout"))

    def show_next_code(self, code: str) -> str:
        """Nobody scanned the code in its time, and the next of its set takes its place; returns that one."""
        client = self._pairing.pop(code)
        return self._show_code(client)

    def ask_passkey(self, code: str) -> None:
        """The phone that scans the code has passkeys turned on."""
        self._pairing[code].tell(PasskeyAsked("passkey-request"))

    def log_out(self, phone: str) -> None:
        client = self._client_of(phone)
        assert client.spec.device_jid is not None
        self._forget(client.spec.device_jid)
        client.tell(LoggedOut("logged_out"))

    def replace(self, phone: str) -> None:
        self._end(phone, Replaced())

    def ban(self, phone: str, *, expires_in_s: int) -> None:
        self._end(phone, Banned("send_to_too_many_people", expires_in_s))

    def drop(self, phone: str) -> None:
        """The socket breaks, and the client is back at once."""
        client = self._client_of(phone)
        client.tell(Disconnected())
        client.tell(Connected())

    # ---- the device store

    async def has_device(self, device_jid: str) -> bool:
        self._require_store()
        return device_jid in self.devices

    async def wire_id_of(self, secret: bytes, *, device_jid: str) -> WireId | None:
        self._require_store()
        device, wire_id = self.traces.get(secret, (None, None))
        return wire_id if device == device_jid else None

    async def numbers_of(self, lids: list[str]) -> dict[str, str]:
        self._require_store()
        return {lid: self.numbers[lid] for lid in lids if lid in self.numbers}

    async def poll_secrets(self, wire_ids: list[str]) -> dict[str, list[PollSecret]]:
        self._require_store()
        return {
            wire_id: [PollSecret(key=secret, writers=(f"{device.partition(':')[0]}{NUMBERS}",))]
            for secret, (device, wire_id) in self.traces.items()
            if wire_id in wire_ids
        }

    # ---- what its clients ask

    def begin(self, client: "SimulatedClient") -> None:
        device = client.spec.device_jid
        if self.is_store_away:
            raise Unavailable("the device store does not answer")
        if device is None:
            self._show_code(client)
            return
        if device not in self.devices:
            raise DeviceMissing(device)
        if (other := self._online.get(device)) is not None:
            other.tell(Replaced())
        self._log_in(client, device)

    def end(self, client: "SimulatedClient") -> None:
        for known in (self._online, self._pairing):
            for key in [key for key, one in known.items() if one is client]:
                del known[key]

    def unlink(self, client: "SimulatedClient") -> bool:
        device = client.spec.device_jid
        if device is None or self._online.get(device) is not client:
            return False
        self._forget(device)
        return True

    def take(self, client: "SimulatedClient", message: Outgoing) -> Sent | Refused | Ambiguous | NotConnected:
        device = client.spec.device_jid
        if device is None or self._online.get(device) is not client:
            return NotConnected()
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, Refused) or (isinstance(answer, Ambiguous) and not self.leaves):
            return answer
        wire_id = self._wire_id()
        self.traces[message.secret] = (device, wire_id)
        self.wire.append(OnWire(wire_id=wire_id, session_phone=device.partition(":")[0], message=message))
        return answer or Sent(wire_id=wire_id, at=datetime.now(UTC))

    def person_of(self, phone: str) -> Person | None:
        if any(one in self.not_on_whatsapp for one in spellings_of(phone)):
            return None
        registered = self.registered.get(phone, phone)
        return Person(f"{registered}{NUMBERS}", f"9{registered}@lid")

    def see(self, client: "SimulatedClient", signal: tuple[str, ...]) -> Shown | NotConnected:
        if not self.is_online(client):
            return NotConnected()
        self.signals.append(signal)
        return Shown()

    def is_online(self, client: "SimulatedClient") -> bool:
        return client in self._online.values()

    def _show_code(self, client: "SimulatedClient") -> str:
        code = f"https://wa.me/settings/linked_devices#{next(self._numbers)}"
        self._pairing[code] = client
        client.tell(QrShown(code))
        return code

    def _log_in(self, client: "SimulatedClient", device: str) -> None:
        self._online[device] = client
        client.tell(Profile(device, None, None))
        client.tell(Connected())

    def _client_of(self, phone: str) -> "SimulatedClient":
        return next(client for device, client in self._online.items() if device.startswith(f"{phone}:"))

    def _end(self, phone: str, event: ClientEvent) -> None:
        client = self._client_of(phone)
        self.end(client)
        client.tell(event)

    def _forget(self, device: str) -> None:
        self.devices.discard(device)
        self._online.pop(device, None)
        self.traces = {secret: trace for secret, trace in self.traces.items() if trace[0] != device}

    def _require_store(self) -> None:
        if self.is_store_away:
            raise Unavailable("the device store does not answer")

    def _wire_id(self) -> WireId:
        return WireId(f"3EB0{next(self._numbers):016X}")


class SimulatedClient:
    """One attempt of one device in a simulated WhatsApp."""

    def __init__(self, spec: ClientSpec, server: SimulatedWhatsApp) -> None:
        self.spec = spec
        self._server = server
        self.proxy_url: str | None = None
        self._is_stopped = False

    async def start(self) -> None:
        self.proxy_url = await self.spec.proxy_url()
        self._server.begin(self)

    async def stop(self, *, deadline_s: float) -> bool:  # noqa: ARG002 - the port's argument; this one always ends
        self._is_stopped = True
        self._server.end(self)
        return True

    async def logout(self) -> bool:
        return self._server.unlink(self)

    async def pair_code(self, phone: str) -> str | Refused | NotConnected:
        return NotConnected() if self._is_stopped else f"{phone[-4:]}-WXYZ"

    async def send(self, message: Outgoing) -> Sent | Refused | Ambiguous | NotConnected:
        if message.file is not None:
            async with message.file() as file:
                if isinstance(file, Refused):
                    return file
        return self._server.take(self, message)

    async def people_of(self, phones: tuple[str, ...]) -> Mapping[str, Person | None] | Refused | NotConnected:
        if not self._server.is_online(self):
            return NotConnected()
        self._server.asked += len(phones)
        return {phone: self._server.person_of(phone) for phone in phones}

    async def download(self, source: MediaSource) -> bytes | Refused | NotConnected:
        if not self._server.is_online(self):
            return NotConnected()
        found = self._server.files.get(source.direct_path)
        return found or Refused(
            code="MEDIA_EXPIRED", detail="WhatsApp does not have the file any more.", permanent=True
        )

    async def show_typing(self, chat: str, state: TypingState) -> Shown | Refused | NotConnected:
        return self._server.see(self, (chat, state))

    async def mark_read(self, chat: str, sender: str, wire_ids: tuple[WireId, ...]) -> Shown | Refused | NotConnected:
        return self._server.see(self, (chat, sender, *wire_ids))

    async def show_presence(self, *, is_available: bool) -> Shown | Refused | NotConnected:
        return self._server.see(self, ("presence", "available" if is_available else "unavailable"))

    async def reject_call(self, wire_caller: str, call_id: str) -> Shown | Refused | NotConnected:
        return self._server.see(self, (wire_caller, "reject", call_id))

    def tell(self, event: ClientEvent) -> None:
        if not self._is_stopped:
            self.spec.emit(event)

    def write_down(self, found: WireRecord) -> None:
        try:
            self.spec.record(found)
        except OSError as error:
            self.tell(JournalFailed(type(error).__name__))
