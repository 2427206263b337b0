"""The real client: neonize behind the port, with a guard against each way in which it ends or deafens a process.

Import it only after `library.load`: it imports neonize.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from neonize._binder import ProxySettings
from neonize.exc import NeonizeError
from neonize.proto.waCompanionReg import WAWebProtobufsCompanionReg_pb2 as companion
from neonize.utils.enum import ChatPresence, ChatPresenceMedia, ClientName, ClientType, Presence, ReceiptType

from session_host.device_store import DeviceStore
from session_host.journal import JournalFull
from session_host.whatsapp import contents, media, refusals
from session_host.whatsapp.bridge import Bridge, BridgedClient, jid_of
from session_host.whatsapp.inbound import text_of
from session_host.whatsapp.library import Library
from session_host.whatsapp.port import (
    ClientFactory,
    ClientSpec,
    DeviceMissing,
    Ended,
    JournalFailed,
    Outgoing,
    WhatsAppClient,
)
from shared.domain.errors import Unavailable
from shared.domain.ids import WireId
from shared.domain.jid import Person, Server
from shared.hosts.protocol import Ambiguous, MediaSource, NotConnected, Refused, Sent, Shown, TypingState

# A connect adds its client to the library's map before it dials, so its first sign of life comes after that. Without
# a sign (a dial that hangs) the map was written long ago by then.
_REGISTERED_S: Final = 5.0
# Calls that only ask WhatsApp something; the library gives up by itself after about as long.
_ASK_S: Final = 70.0
# Calls that only write to the socket.
_SHOW_S: Final = 10.0
# A large file over a slow line; with the send itself it stays within what a worker waits for.
_FILE_S: Final = 120.0
# The library's handlers take some milliseconds once the store answers.
_DRY_S: Final = 0.2
_PROPS: Final = companion.DeviceProps(os="ZapHub", platformType=companion.DeviceProps.CHROME)

_ALIAS: Final = f"@{Server.ALIAS}"

log = structlog.get_logger(__name__)


class NeonizeClient:
    """One attempt of one device. The key under which the library knows it is never used again."""

    def __init__(self, spec: ClientSpec, *, library: Library, store: DeviceStore, has_room: Callable[[], bool]) -> None:
        self._spec = spec
        self._has_room = has_room
        self._library = library
        self._store = store
        self._client: Any = None  # Any: neonize ships no types
        self._bridge: Bridge | None = None
        self._pump: asyncio.Task[None] | None = None
        # Calls for a client that the library does not know end the process.
        self._is_registered = False

    async def start(self) -> None:
        if not await asyncio.to_thread(self._has_room):
            # WhatsApp keeps what comes in for as long as nobody is connected.
            self._spec.emit(JournalFailed(JournalFull.__name__))
            return
        device = self._spec.device_jid
        if device is not None and not await self._store.has_device(device):
            raise DeviceMissing(device)
        proxy = await self._spec.proxy_url() or self._library.proxy_url
        bridge = self._bridge = Bridge(
            asyncio.get_running_loop(),
            self._library.gate,
            emit=self._spec.emit,
            record=self._spec.record,
            on_call=self._spec.on_call,
        )
        # new_device: without it a client that pairs would take over the store's first device.
        client = self._client = BridgedClient(
            self._store.dsn,
            jid=None if device is None else jid_of(device),
            props=_PROPS,
            uuid=f"{self._spec.connection_id}/{secrets.token_hex(4)}",
            new_device=device is None,
        )
        client.attach(bridge)
        self._library.kept.append(client)
        async with self._library.gate.writing():
            self._pump = await client.connect(None if proxy is None else ProxySettings(proxy))
            sign = asyncio.ensure_future(bridge.first_sign.wait())
            await asyncio.wait({self._pump, sign}, timeout=_REGISTERED_S, return_when=asyncio.FIRST_COMPLETED)
            sign.cancel()
        self._is_registered = True
        self._pump.add_done_callback(self._pump_ended)

    async def stop(self, *, deadline_s: float) -> bool:
        if self._client is None or self._pump is None or self._bridge is None:
            return True
        self._is_registered = False
        self._bridge.close()
        if self._bridge.has_logged_in and not self._pump.done():
            # What the library has decrypted but not delivered would be lost for good: WhatsApp sends it again, and
            # it cannot be decrypted twice. So the socket closes first, and the pump runs on until it is dry.
            disconnecting = asyncio.ensure_future(self._library.gate.call(self._client.disconnect()))
            await asyncio.wait({disconnecting}, timeout=deadline_s / 4)
            if not await self._is_dry(within_s=deadline_s / 4):
                # The store is away, and handlers wait for it.
                self._library.keep(self._end_when_dry(deadline_s))
                return True
        return await self._end(deadline_s / 2)

    async def _end_when_dry(self, deadline_s: float) -> None:
        while not await self._is_dry(within_s=_ASK_S):
            pass
        await self._end(deadline_s)

    async def _is_dry(self, *, within_s: float) -> bool:
        """Whether the library's handlers have nothing more to deliver: they wait for nothing but the store."""
        assert self._bridge is not None
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(_DRY_S):
                    await self._store.ping()
            except (TimeoutError, Unavailable):
                continue
            await asyncio.sleep(_DRY_S)
            if self._bridge.quiet_for_s() >= _DRY_S:
                return True
        return False

    async def _end(self, deadline_s: float) -> bool:
        assert self._pump is not None
        assert self._bridge is not None
        # A stop waits for a dial that hangs; its thread may stay behind, we do not.
        async with self._library.gate.writing():
            self._bridge.is_removed = True
            stopping = asyncio.ensure_future(self._client.stop())
            await asyncio.wait({stopping}, timeout=deadline_s / 2)
        done, _ = await asyncio.wait({stopping, self._pump}, timeout=deadline_s / 2, return_when=asyncio.ALL_COMPLETED)
        for task in done:
            _ = task.exception()
        if stopping in done and self._pump in done:
            return True
        # Stopped while it showed a QR code, the library never lets go of its thread; with a dial that hangs, later.
        self._library.leaked += 1
        asyncio.gather(stopping, self._pump, return_exceptions=True).add_done_callback(self._came_back)
        return False

    def _came_back(self, _: object) -> None:
        self._library.leaked -= 1

    async def logout(self) -> bool:
        answer = await self._call(lambda: self._client.logout(), timeout_s=_ASK_S)  # noqa: PLW0108 - the client is made by start
        return answer is None

    async def pair_code(self, phone: str) -> str | Refused | NotConnected:
        answer = await self._call(
            lambda: self._client.PairPhone(phone, True, ClientName.LINUX, ClientType.CHROME),  # noqa: FBT003 - theirs
            timeout_s=_ASK_S,
        )
        match answer:
            case str() | NotConnected():
                return answer
            case Refused():
                return answer
        return Refused(code="UNAVAILABLE", detail="WhatsApp gave no pairing code; try again.")

    async def send(self, message: Outgoing) -> Sent | Refused | Ambiguous | NotConnected:
        built = await self._built(message)
        if isinstance(built, Refused | NotConnected):
            return built
        to = jid_of(message.to)
        answer = await self._call(
            lambda: self._client.send_message(to, built), timeout_s=None, classify=refusals.classify_send
        )
        if isinstance(answer, Refused | Ambiguous | NotConnected):
            return answer
        return Sent(wire_id=answer.ID, at=datetime.fromtimestamp(answer.Timestamp, UTC))

    async def _built(self, message: Outgoing) -> Any:  # noqa: ANN401 - neonize ships no types
        """The message as the library sends it, its file uploaded; or why not, and then nothing left."""
        try:
            if message.file is None:
                return contents.build(message)
            # Let go of before the message waits for its acknowledgement: so many files are in memory at once.
            async with message.file() as file:
                if isinstance(file, Refused):
                    return file
                said = await asyncio.to_thread(media.describe, message.type, message.payload, file)
                data, kind = file.data, media.KINDS[message.type]
                uploaded = await self._call(lambda: self._client.upload(data, kind), timeout_s=_FILE_S)
        except contents.Unsupported as error:
            return Refused(code="UNSUPPORTED_TYPE", detail=str(error), permanent=True)
        except media.Unfit as error:
            return Refused(code="MEDIA_UNFIT", detail=str(error), permanent=True)
        if isinstance(uploaded, Ambiguous):
            # Whatever became of the file, no message has left.
            return Refused(code="MEDIA_UPLOAD_FAILED", detail="WhatsApp did not take the file; another try may work.")
        if isinstance(uploaded, Refused | NotConnected):
            return uploaded
        return contents.build_file(message, said, uploaded)

    async def download(self, source: MediaSource) -> bytes | Refused | NotConnected:
        answer = await self._call(
            lambda: self._client.download_any(media.source_message(source)),
            timeout_s=_FILE_S,
            classify=refusals.classify_download,
        )
        if isinstance(answer, bytes | Refused | NotConnected):
            return answer
        return Refused(code="UNAVAILABLE", detail="WhatsApp did not give the file in time.")

    async def people_of(self, phones: tuple[str, ...]) -> Mapping[str, Person | None] | Refused | NotConnected:
        answer = await self._call(
            lambda: self._client.is_on_whatsapp(*(f"+{phone}" for phone in phones)), timeout_s=_ASK_S
        )
        match answer:
            case Refused() | NotConnected():
                return answer
            case Ambiguous():
                return Refused(code="UNAVAILABLE", detail="WhatsApp did not answer a question about the recipient.")
        jids = {one.Query.lstrip("+").partition("@")[0]: text_of(one.JID) for one in answer if one.IsIn}
        try:
            # WhatsApp answers with aliases; the library hands on these, and keeps the numbers beside them for itself.
            numbers = await self._store.numbers_of([jid for jid in jids.values() if jid.endswith(_ALIAS)])
        except Unavailable:
            return Refused(code="UNAVAILABLE", detail="The device store does not answer.", retry_after_s=1)
        people = {phone: _person(jid, numbers) for phone, jid in jids.items()}
        return {phone: people.get(phone) for phone in phones}

    async def show_typing(self, chat: str, state: TypingState) -> Shown | Refused | NotConnected:
        media = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        presence = ChatPresence.CHAT_PRESENCE_PAUSED if state == "paused" else ChatPresence.CHAT_PRESENCE_COMPOSING
        if state == "recording":
            media = ChatPresenceMedia.CHAT_PRESENCE_MEDIA_AUDIO
        to = jid_of(chat)
        return _shown(await self._call(lambda: self._client.send_chat_presence(to, presence, media), timeout_s=_SHOW_S))

    async def mark_read(self, chat: str, sender: str, wire_ids: tuple[WireId, ...]) -> Shown | Refused | NotConnected:
        return _shown(
            await self._call(
                lambda: self._client.mark_read(
                    *wire_ids, chat=jid_of(chat), sender=jid_of(sender), receipt=ReceiptType.READ
                ),
                timeout_s=_SHOW_S,
            )
        )

    async def show_presence(self, *, is_available: bool) -> Shown | Refused | NotConnected:
        presence = Presence.AVAILABLE if is_available else Presence.UNAVAILABLE
        return _shown(await self._call(lambda: self._client.send_presence(presence), timeout_s=_SHOW_S))

    async def reject_call(self, wire_caller: str, call_id: str) -> Shown | Refused | NotConnected:
        caller = jid_of(wire_caller)
        return _shown(await self._call(lambda: self._client.reject_call(caller, call_id), timeout_s=_SHOW_S))

    async def _call(
        self,
        call: "Any",  # noqa: ANN401 - neonize ships no types
        *,
        timeout_s: float | None,
        classify: Callable[[str], refusals.Verdict] = refusals.classify,
    ) -> Any:  # noqa: ANN401 - as above
        """What the library answered, or what its error means. Past the timeout the library's side goes on alone."""
        if not self._is_registered:
            return NotConnected()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._library.gate.call(self._begin(call))
        except TimeoutError:
            return Ambiguous(detail="The library did not answer in time.")
        except NeonizeError as error:
            return classify(_text(error))

    async def _begin(self, call: "Any") -> Any:  # noqa: ANN401 - neonize ships no types
        # Looked at again inside the gate: a stop may have gone first.
        if not self._is_registered:
            return NotConnected()
        answer: Awaitable[Any] = call()
        return await answer

    def _pump_ended(self, pump: "asyncio.Task[None]") -> None:
        if pump.cancelled():
            return
        error = pump.exception()
        if self._bridge is not None and not self._bridge.is_closed:
            self._bridge.emit(Ended(None if error is None else type(error).__name__))


def _person(jid: str, numbers: Mapping[str, str]) -> Person:
    return Person(numbers.get(jid, jid), jid) if jid.endswith(_ALIAS) else Person(jid)


def _shown(answer: object) -> Shown | Refused | NotConnected:
    if isinstance(answer, Refused | NotConnected):
        return answer
    if isinstance(answer, Ambiguous):
        return Refused(code="UNAVAILABLE", detail="The library did not do it, or not in time.")
    return Shown()


def _text(error: NeonizeError) -> str:
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def factory(library: Library, store: DeviceStore, *, has_room: Callable[[], bool]) -> ClientFactory:
    """Clients of this process's library and store; without room for what would come in they do not connect."""

    def make(spec: ClientSpec) -> WhatsAppClient:
        return NeonizeClient(spec, library=library, store=store, has_room=has_room)

    return make
