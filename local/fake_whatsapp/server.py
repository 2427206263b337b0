"""Puts the server together, and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from local.fake_whatsapp import control, listener
from local.fake_whatsapp.certificates import load_identity
from local.fake_whatsapp.contacts import Contacts
from local.fake_whatsapp.conversations import Conversations
from local.fake_whatsapp.devices import Devices
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.groups import Groups
from local.fake_whatsapp.listener import LOOPBACK, Proxy
from local.fake_whatsapp.mailbox import Mailbox
from local.fake_whatsapp.media import MediaFiles
from local.fake_whatsapp.polls import Polls
from local.fake_whatsapp.protocol import tokens
from local.fake_whatsapp.protocol.codec import Codec
from local.fake_whatsapp.signals import Signals
from local.fake_whatsapp.store import Store, fact, keep_fact
from local.fake_whatsapp.wire_log import WireLog

SHUTDOWN_TIMEOUT_S = 1.0


class FolderTaken(OSError):
    """Another server runs on this data folder; it must end first."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(f"another fake WhatsApp server runs on {data_dir}")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running server listens."""

    control_url: str
    proxy_url: str


@asynccontextmanager
async def serve(data_dir: Path, *, control_port: int = 0) -> AsyncIterator[Addresses]:
    """Run the server while the context lasts; port 0 takes a free one.

    The data folder is created when it is missing; raises FolderTaken when another server runs on it, and a group of
    OSError when the control port is taken. A server that starts on the folder of an earlier one knows what
    that one had acknowledged, and listens on the same proxy port.
    """
    with _locked(data_dir):
        store = Store(data_dir / "fake_whatsapp.sqlite3")
        exchange = _exchange(store, data_dir)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.run())
            try:
                async with _doors(exchange, tasks, control_port=control_port) as addresses:
                    yield addresses
            finally:
                store.stop()


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Keep a second server out of the folder; the lock goes with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderTaken(data_dir) from error
        yield


def _exchange(store: Store, data_dir: Path) -> Exchange:
    identity = load_identity(store)
    contacts = Contacts(store, secret=identity.secret)
    devices = Devices(store)
    return Exchange(
        store=store,
        identity=identity,
        codec=Codec(tokens.load()),
        contacts=contacts,
        devices=devices,
        conversations=Conversations(store, contacts=contacts, devices=devices),
        mailbox=Mailbox(store),
        wire=WireLog(store),
        media=MediaFiles(data_dir / "media"),
        groups=Groups(store),
        polls=Polls(store),
        signals=Signals(store),
    )


@asynccontextmanager
async def _doors(exchange: Exchange, tasks: asyncio.TaskGroup, *, control_port: int) -> AsyncIterator[Addresses]:
    clients = web.AppRunner(listener.application(exchange), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await clients.setup()
    assert clients.server is not None
    proxy = Proxy(exchange, server=clients.server, tls=exchange.identity.tls_context())
    remembered = fact(exchange.store, "proxy_port")
    proxy_socket = await listener.bind(int(remembered) if remembered else None)
    proxy_port = proxy_socket.getsockname()[1]
    keep_fact(exchange.store, "proxy_port", str(proxy_port).encode())
    proxy_url = f"http://{LOOPBACK}:{proxy_port}"

    controls = web.AppRunner(
        control.application(exchange, proxy_url=proxy_url), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S
    )
    await controls.setup()
    site = web.TCPSite(controls, LOOPBACK, control_port)
    await exchange.store.durable()
    try:
        await site.start()
        serving = tasks.create_task(proxy.serve(proxy_socket))
        try:
            yield Addresses(control_url=f"http://{LOOPBACK}:{controls.addresses[0][1]}", proxy_url=proxy_url)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
    finally:
        proxy_socket.close()
        await controls.cleanup()
        for session in list(exchange.live.values()):
            session.drop()
        await clients.cleanup()
