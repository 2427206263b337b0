"""`python -m session_host.child`: one process of at most N sessions, as a fault in the Go library ends the process.

Started by the supervisor. It ends with `os._exit`, as threads of the library may never return.
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Final

import structlog
from aiohttp import web

from session_host.commands import Commands
from session_host.device_store import DeviceStore
from session_host.files import Files
from session_host.journal import Journal
from session_host.journal_feed import JournalFeed
from session_host.numbers import KnownNumbers
from session_host.records import SessionRecords
from session_host.roster import Roster
from session_host.sends import SendDesk
from session_host.session import Means
from session_host.whatsapp import library
from session_host.whatsapp.library import Connector
from shared import log as logging
from shared import presence
from shared.db import hosts
from shared.db.pool import AWAY
from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.ids import HostId
from shared.media.keeping import open_media
from shared.queues.runtime import Queues
from shared.settings import Settings, load

# So many clients that never ended hold so many threads and sockets: a fresh process is better.
_LEAKS: Final = 24
_UNTIL_POSTGRES_S: Final = 1.0
_DRAIN_S: Final = 2.0
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

log = structlog.get_logger(__name__)


def main() -> None:
    """Run until SIGTERM, and end the process at once, whatever the library's threads do."""
    parser = argparse.ArgumentParser(prog="session_host.child")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--connector", default=None)
    options = parser.parse_args()
    _keep_stdout_from_the_library()
    presence.die_with_parent()
    _watch_parent(options.parent)
    try:
        settings = load()
        logging.configure(level=settings.log_level, fmt=settings.log_format)
        connector = None if options.connector is None else named_connector(options.connector)
        asyncio.run(_run(settings, number=options.number, connector=connector))
        code = 0
    except Misconfigured as error:
        sys.stderr.write(f"session-host: {error.detail}\n")
        code = 78
    except Exception as error:
        log.exception("host_child_failed", error=type(error).__name__)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def named_connector(name: str) -> Connector:
    """The function that `package.module:function` names. Raises Misconfigured when there is none."""
    module, _, function = name.partition(":")
    try:
        found: Connector = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"--connector {name} cannot be imported: {error}") from error
    return found


async def _run(settings: Settings, *, number: int, connector: Connector | None) -> None:
    if settings.host_token is None:
        raise Misconfigured("ZAPHUB_HOST_TOKEN is not set: workers and API show it to session hosts.")
    stopping = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    host = HostId(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    structlog.contextvars.bind_contextvars(host=host)
    go = library.load(sessions=settings.host_sessions, fake_url=settings.fake_whatsapp_url, connector=connector)
    queues = await _queues(settings, stopping)
    if queues is None:
        return
    async with (
        queues,
        open_media(settings, queues.pool) as media,
        _serving(settings, queues, go, host, stopping, Files(media)),
    ):
        presence.announce(settings.run_dir, f"session-host-child-{number}")
        log.info("host_child_ready", number=number)
        await stopping.wait()


@asynccontextmanager
async def _serving(
    settings: Settings, queues: Queues, go: library.Library, host: HostId, stopping: asyncio.Event, files: Files
) -> AsyncIterator[None]:
    """Everything of this process at work; at the end sockets are closed, leases given back, the journal fed."""
    assert settings.host_token is not None
    store = await DeviceStore.open(queues.pool, settings.database_url, name="zaphub-device-store")
    journal = Journal(settings.data_dir.resolve() / "journal", host)
    feed = JournalFeed(journal, queues, store)
    await feed.replay_orphans()

    def on_leak() -> None:
        if go.leaked >= _LEAKS:
            log.warning("host_child_recycles", leaked=go.leaked)
            stopping.set()

    async with asyncio.TaskGroup() as group:
        roster = Roster(host, queues, feed, group, capacity=settings.host_sessions, lease_s=settings.host_lease_s)
        # Only now, as importing it loads the library.
        make_client = import_module("session_host.whatsapp.neonize_client").factory(
            go, store, has_room=journal.has_room
        )
        roster.equip(
            Means(
                make_client=make_client,
                records=SessionRecords(queues),
                lease_is_valid=roster.lease_is_valid,
                on_leak=on_leak,
            )
        )
        numbers = KnownNumbers()
        desk = SendDesk(host, store, numbers, files, group)
        runner = web.AppRunner(
            Commands(roster, desk, numbers).application(token=settings.host_token.get_secret_value()), access_log=None
        )
        await runner.setup()
        site = web.TCPSite(runner, settings.host_bind, 0, shutdown_timeout=0.5)
        await site.start()
        address = _address(settings.host_bind, runner.addresses[0][1])
        await hosts.register(queues.pool, host, address=address, capacity=settings.host_sessions)
        tasks = [group.create_task(roster.run()), group.create_task(feed.run())]
        yield
        for task in tasks:
            task.cancel()
        await site.stop()
        await roster.close()
        with suppress(*AWAY, Unavailable):
            async with asyncio.timeout(_DRAIN_S):
                await feed.drain()
        journal.close()
        # A send that still waits for WhatsApp is settled by its next lookup. Nothing else is worth waiting for.
        log.info("host_child_stopped")
        sys.stdout.flush()
        os._exit(0)


async def _queues(settings: Settings, stopping: asyncio.Event) -> Queues | None:
    """Open them as soon as Postgres answers; None when it is time to stop before."""
    while not stopping.is_set():
        try:
            return await Queues.open(settings)
        except Unavailable as error:
            log.warning("host_child_waits", detail=error.detail)
        with suppress(TimeoutError):
            async with asyncio.timeout(_UNTIL_POSTGRES_S):
                await stopping.wait()
    return None


def _address(bind: str, port: int) -> str:
    """Where others reach it: a host that listens everywhere is reached by its name's address."""
    reached = socket.gethostbyname(socket.gethostname()) if bind in _ANY else bind
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _keep_stdout_from_the_library() -> None:
    """Go prints to file descriptor 1, phone numbers included: give it /dev/null, and keep the real one for our log."""
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout = os.fdopen(kept, "w", buffering=1, encoding="utf-8")


def _watch_parent(parent: int) -> None:
    """End with the supervisor even where the kernel does not see to it, or the loop hangs."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        # SIGTERM first, which the kernel may have sent already; then there is nobody to stop for.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(8)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


if __name__ == "__main__":
    main()
