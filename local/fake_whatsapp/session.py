"""A logged-in client: what it says, and what waits for it."""

from __future__ import annotations

import asyncio
import time

import structlog

from local.fake_whatsapp import incoming, outgoing, queries
from local.fake_whatsapp.deliveries import Deliveries
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.farewell import Farewell
from local.fake_whatsapp.outgoing import Verdict
from local.fake_whatsapp.protocol.channel import Channel, ChannelClosed
from local.fake_whatsapp.protocol.node import SERVER, Jid, Node

log = structlog.get_logger()

# An error code of WhatsApp for a stanza that it cannot read.
INVALID_STANZA = 479
# A client with fewer one-time keys than this is asked for more.
FEW_KEYS = 10


class Session:
    """One connection of one linked device, from its login to its end."""

    def __init__(self, exchange: Exchange, channel: Channel, device: Device) -> None:
        self._exchange = exchange
        self._channel = channel
        self._device = device
        self._deliveries = Deliveries(exchange.mailbox, device.phone)
        self._mail = asyncio.Event()
        self._is_active = asyncio.Event()
        self._farewell = Farewell(channel)

    async def run(self) -> None:
        """Serve the client until it leaves; one device has one session, so an older one is told that it lost."""
        exchange, phone = self._exchange, self._device.phone
        older = exchange.live.get(phone)
        exchange.live[phone] = self
        try:
            if older is not None:
                await older.replace()
            exchange.devices.count_connect(phone)
            await self._channel.send(Node("success", {"t": _now(), "lid": self._device.lid}))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deliver_mail())
                tasks.create_task(self._farewell.hang_up())
                while True:
                    self._hear(await self._channel.receive(), tasks)
        except* ChannelClosed:
            log.debug("session_left")
        finally:
            self._leave()

    def wake(self) -> None:
        """There is mail."""
        self._mail.set()

    async def ring(self, offer: Node) -> None:
        """Somebody calls."""
        await self._channel.send(offer)

    async def remove(self) -> None:
        """Tell the client that its device is linked no longer."""
        conflict = Node("conflict", {"type": "device_removed"})
        await self._dismiss(Node("stream:error", {"code": "401"}, (conflict,)))

    async def replace(self) -> None:
        """Tell the client that another connection took its place."""
        await self._dismiss(Node("stream:error", {}, (Node("conflict", {"type": "replaced"}),)))

    async def ban(self, *, code: int, expires_s: int) -> None:
        """Tell the client that its number is banned for that long."""
        attrs = {"reason": "402", "code": str(code), "expire": str(expires_s)}
        await self._dismiss(Node("failure", attrs))

    def drop(self) -> None:
        """Cut the connection without a word."""
        self._channel.abort()

    async def _dismiss(self, farewell: Node) -> None:
        self._leave()
        try:
            await self._farewell.say(farewell)
        except ChannelClosed:
            log.debug("session_left_before_farewell")

    def _leave(self) -> None:
        if self._exchange.live.get(self._device.phone) is self:
            del self._exchange.live[self._device.phone]

    def _hear(self, node: Node, tasks: asyncio.TaskGroup) -> None:
        if self._farewell.is_said:
            self._farewell.listen(node)
            return
        match node.tag:
            case "message":
                tasks.create_task(self._acknowledge(node, self._accept(node)))
            case "iq" if node.attrs.get("type") in ("get", "set"):
                tasks.create_task(self._answer(node))
            case "receipt":
                self._hear_receipt(node)
            case "chatstate":
                self._exchange.signals.hear_typing(self._device.phone, node)
            case "presence":
                self._exchange.signals.hear_presence(self._device.phone, node)
            case "call":
                self._exchange.signals.hear_call(self._device.phone, node)
            case "ack":
                self._deliveries.hear_ack(node)

    def _accept(self, message: Node) -> Verdict:
        try:
            verdict = outgoing.accept(self._exchange, self._device, message)
        except LookupError as error:
            log.warning("stanza_refused", reason=str(error))
            return Verdict(error=INVALID_STANZA)
        return verdict

    async def _acknowledge(self, message: Node, verdict: Verdict) -> None:
        await self._exchange.store.durable()
        for session in self._exchange.live.values():
            # The receipts of this message wait here, and a copy of it where the contact is a session too.
            session.wake()
        if verdict.delay_s:
            await asyncio.sleep(verdict.delay_s)
        if verdict.is_silent:
            return
        attrs = {"class": "message", "id": message.attrs.get("id", ""), "t": _now()}
        attrs["from"] = Jid(message.attrs.get("to", SERVER))
        if verdict.error is not None:
            attrs["error"] = str(verdict.error)
        await self._channel.send(Node("ack", attrs))

    async def _answer(self, query: Node) -> None:
        result = queries.answer(self._exchange, self._device, query)
        await self._exchange.store.durable()
        await self._channel.send(result)
        device = self._exchange.devices.get(self._device.phone)
        if query.attrs.get("xmlns") == "passive" and device is not None and device.has_keys:
            # A client uploads its keys before it calls itself active; without them nobody can write to it.
            self._is_active.set()

    def _hear_receipt(self, receipt: Node) -> None:
        """A receipt of any type says that the client has the message, unless it asks for it again."""
        first = receipt.attrs["id"]
        if receipt.attrs.get("type") == "retry":
            incoming.send_again(self._exchange, self._device, first)
            self.wake()
            return
        more = receipt.child("list")
        wire_ids = [first, *(item.attrs["id"] for item in (more.children if more else ()))]
        self._exchange.signals.hear_receipt(self._device.phone, receipt, wire_ids)
        for wire_id in wire_ids:
            self._exchange.mailbox.let_go_of_message(self._device.phone, wire_id)

    async def _deliver_mail(self) -> None:
        """Send what waits, in order, as it falls due: from the start of the connection, and as it comes."""
        await self._is_active.wait()
        is_first_round = True
        while True:
            self._mail.clear()
            due, next_due_s = self._deliveries.due()
            nodes = [incoming.stanza(self._exchange, self._device, letter) for letter in due]
            # The ratchet must be on disk before the client sees what it sealed.
            await self._exchange.store.durable()
            for letter, node in zip(due, nodes, strict=True):
                self._deliveries.sending(letter)
                await self._channel.send(node)
            if is_first_round:
                is_first_round = False
                await self._channel.send(_offline_done(len(due)))
            await self._ask_for_keys(has_sealed=bool(due))
            try:
                async with asyncio.timeout(next_due_s):
                    await self._mail.wait()
            except TimeoutError:
                continue

    async def _ask_for_keys(self, *, has_sealed: bool) -> None:
        left = self._exchange.devices.one_time_keys_left(self._device.phone)
        if has_sealed and left < FEW_KEYS:
            attrs = {"from": SERVER, "type": "encrypt", "id": f"keys-{left}", "t": _now()}
            await self._channel.send(Node("notification", attrs, (Node("count", {"value": str(left)}),)))


def _offline_done(count: int) -> Node:
    return Node("ib", {"from": SERVER}, (Node("offline", {"count": str(count)}),))


def _now() -> str:
    return str(int(time.time()))
