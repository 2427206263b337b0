"""The doors of the server: a CONNECT proxy on loopback, and the HTTPS and websocket endpoints behind it."""

from __future__ import annotations

import asyncio
import random
import socket
from ssl import SSLContext

import structlog
from aiohttp import web
from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.farewell import Farewell
from local.fake_whatsapp.faults import FaultKind
from local.fake_whatsapp.media import HOST
from local.fake_whatsapp.pairing import WaitingClient
from local.fake_whatsapp.protocol import channel
from local.fake_whatsapp.protocol.channel import Channel, ChannelClosed
from local.fake_whatsapp.protocol.codec import MalformedNode
from local.fake_whatsapp.protocol.node import Node
from local.fake_whatsapp.session import Session

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
LONGEST_REQUEST_BYTES = 8192
REQUEST_TIMEOUT_S = 10.0
BACKLOG = 512
NEW_PORTS = range(20_000, 32_768)
BIND_TIMEOUT_S = 5.0
BIND_PAUSE_S = 0.05
LARGEST_MEDIA_BYTES = 128 * 1024 * 1024
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
NOT_LINKED = Node("failure", {"reason": "401"})
NO_SERVICE = Node("failure", {"reason": "503"})
OUTDATED = Node("failure", {"reason": "405"})


class Proxy:
    """Answers CONNECT for every host by serving that host itself, on the same socket."""

    def __init__(self, exchange: Exchange, *, server: web.Server, tls: SSLContext) -> None:
        self._exchange = exchange
        self._server = server
        self._tls = tls

    async def serve(self, listening: socket.socket) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                client, _ = await loop.sock_accept(listening)
                tasks.create_task(self._tunnel(client))

    async def _tunnel(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        client.setblocking(False)  # noqa: FBT003  # the standard library names it no other way
        try:
            if self._exchange.faults.stands(FaultKind.REFUSE_CONNECTIONS, None):
                client.close()
                return
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                # The client sends nothing beyond its request before it has the answer.
                await _read_request(client)
                await loop.sock_sendall(client, CONNECTED)
                await loop.connect_accepted_socket(self._server, client, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            log.debug("tunnel_failed", reason=str(error))
            client.close()


async def _read_request(client: socket.socket) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        part = await asyncio.get_running_loop().sock_recv(client, LONGEST_REQUEST_BYTES)
        if not part or len(request) > LONGEST_REQUEST_BYTES:
            raise ConnectionError("not a CONNECT request")
        request += part


async def bind(remembered: int | None) -> socket.socket:
    """A listening socket on loopback: on the remembered port, to which clients come back, or on a new one.

    A new port lies below those that Linux gives to outgoing connections: one of these would sooner or later take the
    port while the server is down. Raises OSError when the remembered port stays taken for 5 s.
    """
    deadline = asyncio.get_running_loop().time() + BIND_TIMEOUT_S
    while True:
        try:
            return _listening(remembered or random.choice(NEW_PORTS))  # noqa: S311 - not a secret
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise OSError(error.errno, f"the proxy port {remembered or 'of every try'} is taken") from error
            await asyncio.sleep(BIND_PAUSE_S)


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setblocking(False)  # noqa: FBT003  # as above
    try:
        listening.bind((LOOPBACK, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def application(exchange: Exchange) -> web.Application:
    """What the hosts of WhatsApp serve: the chat websocket, and media."""
    chain = exchange.identity.noise_chain()

    async def chat(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(max_msg_size=0)
        await websocket.prepare(request)
        await _serve_client(exchange, websocket, chain=chain)
        return websocket

    async def upload(request: web.Request) -> web.Response:
        direct_path = await asyncio.to_thread(exchange.media.put, await request.read())
        return web.json_response({"url": f"https://{HOST}{direct_path}", "direct_path": direct_path, "handle": ""})

    async def download(request: web.Request) -> web.StreamResponse:
        path = exchange.media.path(request.path)
        return web.Response(status=404) if path is None else web.FileResponse(path)

    app = web.Application(client_max_size=LARGEST_MEDIA_BYTES)
    app.router.add_get("/ws/chat", chat)
    app.router.add_post("/{path:.*}", upload)
    app.router.add_get("/{path:.*}", download)
    return app


async def _serve_client(exchange: Exchange, websocket: web.WebSocketResponse, *, chain: bytes) -> None:
    try:
        client, payload = await channel.accept(
            websocket, codec=exchange.codec, static=exchange.identity.static, chain=chain
        )
        phone = str(payload.username) if payload.username else None
        if exchange.faults.stands(FaultKind.CLIENT_OUTDATED, phone):
            await _turn_away(client, OUTDATED)
        elif phone:
            await _log_in(exchange, client, phone=phone, number=payload.device)
        else:
            await WaitingClient(exchange, client).run()
    except* (ChannelClosed, TimeoutError):
        log.debug("client_left")
    except* (InvalidTag, DecodeError, MalformedNode) as misspoken:
        log.warning("client_misspoke", reason=repr(misspoken.exceptions))
    finally:
        await websocket.close()


async def _log_in(exchange: Exchange, client: Channel, *, phone: str, number: int) -> None:
    device = exchange.devices.get(phone)
    if device is None or device.number != number:
        await _turn_away(client, NOT_LINKED)
        return
    if exchange.faults.stands(FaultKind.REFUSE_CONNECTIONS, phone):
        await _turn_away(client, NO_SERVICE)
        return
    await Session(exchange, client, device).run()


async def _turn_away(client: Channel, word: Node) -> None:
    """Say why there is no session, and hang up once that was heard. Raises ChannelClosed at the end, in a group.

    whatsmeow misses an end that comes before its own side of the handshake has returned: it holds the dead socket for
    minutes and does not connect again.
    """
    farewell = Farewell(client)
    async with asyncio.TaskGroup() as tasks:
        await farewell.say(word)
        tasks.create_task(farewell.hang_up())
        while True:
            farewell.listen(await client.receive())
