"""One encrypted websocket: the server's handshake, then nodes in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import WSMsgType, web

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.codec import Codec
from local.fake_whatsapp.protocol.node import Node
from local.fake_whatsapp.protocol.noise import Cipher, Handshake
from local.fake_whatsapp.protocol.protos import ClientPayload, HandshakeMessage

HEADER_BYTES = 4
LENGTH_BYTES = 3
# A client that stalls in its handshake would hold the socket open for ever.
HANDSHAKE_TIMEOUT_S = 20.0


class ChannelClosed(ConnectionError):
    """The socket ended; the client may open another."""


class Frames:
    """Length-prefixed frames over websocket messages, which may split or join them anywhere."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._buffer = bytearray()

    async def header(self) -> bytes:
        """The four bytes that a client sends before its first frame."""
        return await self._take(HEADER_BYTES)

    async def receive(self) -> bytes:
        size = int.from_bytes(await self._take(LENGTH_BYTES), "big")
        return await self._take(size)

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
        except ConnectionError as error:
            raise ChannelClosed from error

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise ChannelClosed
            self._buffer += message.data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Channel:
    """Nodes to and from one client, encrypted. Sends are whole and in the order of their calls."""

    def __init__(
        self, socket: web.WebSocketResponse, *, frames: Frames, codec: Codec, ciphers: tuple[Cipher, Cipher]
    ) -> None:
        self._socket = socket
        self._frames = frames
        self._codec = codec
        self._incoming, self._outgoing = ciphers
        self._sending = asyncio.Lock()

    async def receive(self) -> Node:
        """The next node; raises ChannelClosed when the client is gone."""
        return self._codec.decode(self._incoming.decrypt(await self._frames.receive()))

    async def send(self, node: Node) -> None:
        """Raises ChannelClosed when the client is gone."""
        body = self._codec.encode(node)
        async with self._sending:
            # The counter and the socket must see the same order.
            await self._frames.send(self._outgoing.encrypt(body))

    async def close(self) -> None:
        """Close politely; the client sees an end of the stream."""
        await self._socket.close()

    def abort(self) -> None:
        """Cut the socket as a network failure would: no close frame, no farewell."""
        transport = _transport_of(self._socket)
        if transport is not None:
            transport.abort()


async def accept(
    socket: web.WebSocketResponse, *, codec: Codec, static: curve.KeyPair, chain: bytes
) -> tuple[Channel, Any]:
    """Shake hands; the channel and the client's payload (its login or its registration).

    Raises ChannelClosed when the client leaves, TimeoutError after 20 s, and cryptography's InvalidTag
    when the client does not speak Noise XX with this server's key.
    """
    frames = Frames(socket)
    async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
        handshake = Handshake(await frames.header())
        hello = HandshakeMessage.FromString(await frames.receive()).clientHello.ephemeral
        handshake.authenticate(hello)

        ephemeral = curve.generate()
        handshake.authenticate(ephemeral.public)
        handshake.mix(ephemeral.agree(hello))
        encrypted_static = handshake.encrypt(static.public)
        handshake.mix(static.agree(hello))
        answer = HandshakeMessage.ServerHello(
            ephemeral=ephemeral.public, static=encrypted_static, payload=handshake.encrypt(chain)
        )
        await frames.send(HandshakeMessage(serverHello=answer).SerializeToString())

        finish = HandshakeMessage.FromString(await frames.receive()).clientFinish
        handshake.mix(ephemeral.agree(handshake.decrypt(finish.static)))
        payload = ClientPayload.FromString(handshake.decrypt(finish.payload))
    return Channel(socket, frames=frames, codec=codec, ciphers=handshake.finish()), payload


def _transport_of(socket: web.WebSocketResponse) -> asyncio.Transport | None:
    # aiohttp offers no public way to a server websocket's transport.
    request = socket._req  # noqa: SLF001
    return None if request is None else request.transport
