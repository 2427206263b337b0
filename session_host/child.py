"""`python -m session_host.child`: one process of at most N sessions, as a fault in the Go library ends the process.

Started by the supervisor. It ends with `os._exit`, as threads of the library may never return.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Final, NoReturn

import structlog
from aiohttp import web

from session_host import address, store_watch
from session_host.commands import Commands
from session_host.device_store import DeviceStore
from session_host.fence import Fence, kernel_alarm
from session_host.files import Files
from session_host.habits import Habits
from session_host.handover import Handover
from session_host.journal import Journal
from session_host.journal_feed import JournalFeed
from session_host.lost_traces import LostTraces
from session_host.means import Means
from session_host.numbers import KnownNumbers, PostgresMemory
from session_host.proxies import Proxies
from session_host.records import SessionRecords
from session_host.roster import Roster
from session_host.sends import SendDesk
from session_host.turns import Turns
from session_host.whatsapp import library
from session_host.whatsapp.library import Connector
from shared import log as logging
from shared import presence
from shared.db import hosts, leases
from shared.db.pool import AWAY
from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.ids import HostId
from shared.media.keeping import open_media
from shared.queues.runtime import Queues
from shared.settings import Settings, load, load_ecs

# So many clients that never ended hold so many threads and sockets: a fresh process is better.
_LEAKS: Final = 24
_UNTIL_POSTGRES_S: Final = 1.0
_DRAIN_S: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which child this is: the `number`-th of its supervisor, and who had the place before."""

    number: int
    host: HostId
    after: HostId | None


def main() -> None:
    """Run until SIGTERM, and end the process at once, whatever the library's threads do."""
    parser = argparse.ArgumentParser(prog="session_host.child")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--host", required=True, help="the id of this process in the table of hosts")
    parser.add_argument("--after", default=None, help="the id of the process that was here before, and is dead")
    parser.add_argument("--connector", default=None)
    options = parser.parse_args()
    _keep_stdout_from_the_library()
    presence.die_with_parent()
    _watch_parent(options.parent)
    try:
        settings = load()
        logging.configure(level=settings.log_level, fmt=settings.log_format)
        connector = None if options.connector is None else named_connector(options.connector)
        place = Place(
            number=options.number,
            host=HostId(options.host),
            after=None if options.after is None else HostId(options.after),
        )
    except Misconfigured as error:
        _leave(_explained(error))
    asyncio.run(_live(settings, place, connector=connector))


def named_connector(name: str) -> Connector:
    """The function that `package.module:function` names. Raises Misconfigured when there is none."""
    module, _, function = name.partition(":")
    try:
        found: Connector = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"--connector {name} cannot be imported: {error}") from error
    return found


async def _live(settings: Settings, place: Place, *, connector: Connector | None) -> NoReturn:
    """Run, and leave from in here: at its end asyncio waits for all threads, and the library's may never return."""
    code = 0
    try:
        await _run(settings, place, connector=connector)
    except Misconfigured as error:
        code = _explained(error)
    except Exception as error:
        log.exception("host_child_failed", error=type(error).__name__)
        code = 1
    _leave(code)


def _explained(error: Misconfigured) -> int:
    """Say what is wrong with the settings; the exit code that stands for that."""
    sys.stderr.write(f"session-host: {error.detail}\n")
    return 78


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _run(settings: Settings, place: Place, *, connector: Connector | None) -> None:
    if settings.host_token is None:
        raise Misconfigured("ZAPHUB_HOST_TOKEN is not set: workers and API show it to session hosts.")
    stopping = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    structlog.contextvars.bind_contextvars(host=place.host)
    go = library.load(sessions=settings.host_sessions, fake_url=settings.fake_whatsapp_url, connector=connector)
    queues = await _queues(settings, stopping)
    if queues is None:
        return
    async with (
        queues,
        open_media(settings, queues.pool) as media,
        _serving(settings, queues, go, place, stopping, Files(media)),
    ):
        presence.announce(settings.run_dir, f"session-host-child-{place.number}")
        log.info("host_child_ready", number=place.number)
        await stopping.wait()


@asynccontextmanager
async def _serving(
    settings: Settings, queues: Queues, go: library.Library, place: Place, stopping: asyncio.Event, files: Files
) -> AsyncIterator[None]:
    """Everything of this process at work; at the end sockets are closed, leases given back, the journal fed."""
    assert settings.host_token is not None
    host = place.host
    # Before there is a group, which would wrap what is wrong with an address.
    listener = address.listener(settings.host_bind, address.port_of(settings, place.number))
    reached = await address.advertised(settings, load_ecs())
    # With its id, as its port may be a later process's: what was meant for this one is refused there.
    url = f"{address.url_of(reached, listener.getsockname()[1])}/{host}"
    pooled = settings.db_transaction_pooler
    store = await DeviceStore.open(
        queues.pool, settings.database_url, name=f"zaphub-device-store-{host[-8:]}", closes_idle=not pooled
    )
    journal = Journal(settings.data_dir.resolve() / "journal", host)
    feed = JournalFeed(journal, queues, store)
    await feed.replay_orphans()
    if place.after is not None:
        await leases.end_of(queues.pool, place.after)

    def on_leak() -> None:
        if go.leaked >= _LEAKS:
            log.warning("host_child_recycles", leaked=go.leaked)
            stopping.set()

    async with asyncio.TaskGroup() as group:
        roster = Roster(
            host,
            queues,
            feed,
            group,
            capacity=settings.host_sessions,
            lease_s=settings.host_lease_s,
            moves_at_once=settings.host_moves_at_once,
        )
        numbers = KnownNumbers(PostgresMemory(queues.pool), store)
        desk = SendDesk(host, store, numbers, files, group)
        go.on_lost_trace = LostTraces(queues.pool, desk).heard
        habits = Habits(queues, group, Proxies(settings, default=go.proxy_url))
        habits.equip(is_held=lambda one: roster.get(one) is not None, settle=desk.settle)
        # Only now, as importing it loads the library.
        make_client = import_module("session_host.whatsapp.neonize_client").factory(
            go, store, has_room=journal.has_room
        )
        means = Means(
            make_client=habits.over(make_client),
            records=SessionRecords(queues),
            fence=Fence(alarm=kernel_alarm),
            turns=Turns(settings.host_connects_at_once),
            on_leak=on_leak,
        )
        roster.equip(means, Handover(queues, desk))
        commands = Commands(roster, desk, numbers, habits)
        app = commands.application(token=settings.host_token.get_secret_value(), address=url)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.SockSite(runner, listener, shutdown_timeout=0.5)
        await site.start()
        await hosts.register(queues.pool, host, address=url, capacity=settings.host_sessions)
        tasks = [
            group.create_task(roster.run()),
            group.create_task(feed.run()),
            group.create_task(habits.run()),
            group.create_task(store_watch.watch(store, bound=settings.host_store_connections, stopping=stopping)),
            group.create_task(
                store_watch.watch_starts(lambda: len(go.kept), most=store_watch.most_starts(), stopping=stopping)
            ),
        ]
        yield
        # Leases are renewed, and the journal is fed, until the last session is handed over.
        await roster.close()
        for task in tasks:
            task.cancel()
        await site.stop()
        with suppress(*AWAY, Unavailable):
            async with asyncio.timeout(_DRAIN_S):
                await feed.drain()
        journal.close()
        # A send that still waits for WhatsApp is settled by its next lookup. Nothing else is worth waiting for.
        log.info("host_child_stopped")
        _leave(0)


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
