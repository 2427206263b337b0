"""What a session asks of a WhatsApp client, and what the client tells it: the port, with its values.

A client object is one attempt: it starts once and stops once. A session that reconnects makes a new one.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.domain.ids import ConnectionId, WireId
from shared.domain.jid import Person
from shared.hosts.protocol import Ambiguous, MediaSource, NotConnected, Quoted, Refused, Sent, Shown, TypingState

# ---- what the client tells its session, on the loop and in order


@dataclass(frozen=True, slots=True)
class QrShown:
    """A code to scan. The first of a set lives 60 s, the next five 20 s each."""

    code: str


@dataclass(frozen=True, slots=True)
class QrEnded:
    """No code of the set was scanned, or WhatsApp ended the pairing: `outcome` is the library's word."""

    outcome: str


@dataclass(frozen=True, slots=True)
class PasskeyAsked:
    """WhatsApp wants a passkey before it links the device. The library says so, and has no way to answer."""

    step: str


@dataclass(frozen=True, slots=True)
class Paired:
    """The phone linked this device; the client logs in with it by itself (after stream error 515)."""

    device_jid: str
    push_name: str | None = None


@dataclass(frozen=True, slots=True)
class PairFailed:
    detail: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Who the device is, as far as the library's store knows."""

    device_jid: str
    lid: str | None
    push_name: str | None


@dataclass(frozen=True, slots=True)
class Connected:
    """Logged in: messages flow."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The socket is gone; the client tries again by itself."""


@dataclass(frozen=True, slots=True)
class KeepAliveLost:
    """`misses` pings in a row were not answered."""

    misses: int


@dataclass(frozen=True, slots=True)
class KeepAliveRestored:
    """Pings are answered again."""


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The phone removed the device, or WhatsApp did; its keys are gone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another process logged in with the same device."""


@dataclass(frozen=True, slots=True)
class Banned:
    """For a while: `expires_in_s`, 0 when WhatsApp does not say."""

    code: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Outdated:
    """WhatsApp refuses this version of the library."""


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """WhatsApp refused the login for another reason; the library may try again or end."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The library delivers no more events for this client, whatever its socket says: stop it, make a new one.

    An event that the library cannot encode ends its pump while the socket stays up and swallows messages.
    """

    error: str | None


@dataclass(frozen=True, slots=True)
class ProxyChanged:
    """The connection is to go through another proxy, or none any more: stop the client, make a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOffered:
    """Somebody calls. `caller` is the number's JID where that is known, `wire_caller` what a rejection must name."""

    call_id: str
    caller: str
    wire_caller: str
    is_group: bool
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class JournalFailed:
    """An inbound message could not be written down: the socket must close, so that WhatsApp keeps the rest."""

    error: str


ClientEvent = (
    QrShown
    | QrEnded
    | PasskeyAsked
    | Paired
    | PairFailed
    | Profile
    | Connected
    | Disconnected
    | KeepAliveLost
    | KeepAliveRestored
    | LoggedOut
    | Replaced
    | Banned
    | Outdated
    | ConnectFailed
    | Ended
    | JournalFailed
    | ProxyChanged
)


# ---- what comes in from the wire, in the library's own thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Who wrote where and when. JIDs have no device part; where a number is known it comes first, its `@lid` beside it.

    `wire_sender` is the writer as the stanza named him: what another message must call him to mean this one.
    `backfilled`: WhatsApp kept it while the device was away.
    """

    wire_id: WireId
    chat: str
    chat_alias: str | None
    sender: str
    sender_alias: str | None = None
    wire_sender: str
    participant: str | None
    push_name: str | None
    from_me: bool
    timestamp_ms: int
    backfilled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound(Envelope):
    """A message of a contact, or one that the phone itself sent."""

    type: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """`status` is delivered, read or played. No chat: receipts name a `@lid` where the send named a number."""

    wire_ids: tuple[WireId, ...]
    status: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecryptable(Envelope):
    """A message that could not be decrypted; the library has asked its sender to send it again."""


WireRecord = Inbound | Receipt | Undecryptable


# ---- what the session asks


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingFile:
    """A file that a message carries, whole."""

    data: bytes = field(repr=False)
    mimetype: str
    filename: str | None = None


# Holds the file in memory for as long as the block lasts; Refused: there is none, or not now.
OpenFile = Callable[[], AbstractAsyncContextManager[OutgoingFile | Refused]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message as the client sends it. `secret` finds its wire id in the device store again."""

    to: str
    type: str
    payload: Mapping[str, Any]
    secret: bytes = field(repr=False)
    reply_to: Quoted | None = None
    mentions: tuple[str, ...] = ()
    file: OpenFile | None = None


class DeviceMissing(Exception):
    """The store has no keys for the device: it was logged out. Opening it would end the process."""


class WhatsAppClient(Protocol):
    """One attempt to be connected. Nothing but `start` raises for a client that is not connected."""

    async def start(self) -> None:
        """Begin to connect; what happens is told as events. Raises DeviceMissing; Unavailable without its store."""

    async def stop(self, *, deadline_s: float) -> bool:
        """Close the socket and end the client; False when the library still holds on to it at the deadline."""

    async def logout(self) -> bool:
        """Unlink at the phone; False when WhatsApp did not confirm it."""

    async def pair_code(self, phone: str) -> str | Refused | NotConnected:
        """A code to type on the phone, while a QR code is shown."""

    async def send(self, message: Outgoing) -> Sent | Refused | Ambiguous | NotConnected:
        """Send one message and wait for WhatsApp's answer, up to the library's own 75 s."""

    async def people_of(self, phones: tuple[str, ...]) -> Mapping[str, Person | None] | Refused | NotConnected:
        """Who has each of these numbers (digits), asked in one query; None for one that is not on WhatsApp."""

    async def download(self, source: MediaSource) -> bytes | Refused | NotConnected:
        """A file that came in, decrypted and checked against its hash."""

    async def show_typing(self, chat: str, state: TypingState) -> Shown | Refused | NotConnected:
        """Let a chat see that somebody types or records, or does no longer."""

    async def mark_read(self, chat: str, sender: str, wire_ids: tuple[WireId, ...]) -> Shown | Refused | NotConnected:
        """Let the writer of these messages see that they were read."""

    async def show_presence(self, *, is_available: bool) -> Shown | Refused | NotConnected:
        """Let contacts see it online or not, until the socket closes. Refused while the phone's name is not known."""

    async def reject_call(self, wire_caller: str, call_id: str) -> Shown | Refused | NotConnected:
        """Decline a call that was offered."""


Emit = Callable[[ClientEvent], None]  # called on the loop
OnCall = Callable[[CallOffered], None]  # called on the loop
ProxyUrl = Callable[[], Awaitable[str | None]]
Record = Callable[[WireRecord], None]  # called in the library's thread; returns once it is on disk, or raises OSError


async def _no_proxy() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """Which device to connect, None to pair a new one, and where to tell what happens.

    `proxy_url` is asked at each start: the proxy to take, with its password; None: the way that all of this process
    take. It raises Unavailable while that cannot be said.
    """

    connection_id: ConnectionId
    device_jid: str | None
    emit: Emit = field(repr=False)
    record: Record = field(repr=False)
    on_call: OnCall = field(default=lambda _: None, repr=False)
    proxy_url: ProxyUrl = field(default=_no_proxy, repr=False)


ClientFactory = Callable[[ClientSpec], WhatsAppClient]
