"""A whole host in this process: roster, desk, journal and command API on a real Postgres and a simulated WhatsApp."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from aiohttp import web

from session_host.commands import Commands
from session_host.fence import Fence
from session_host.habits import Habits
from session_host.handover import Handover
from session_host.journal import Journal
from session_host.journal_feed import JournalFeed
from session_host.means import Means
from session_host.numbers import KnownNumbers, PostgresMemory
from session_host.proxies import Proxies
from session_host.records import SessionRecords
from session_host.roster import Roster
from session_host.sends import FilesOfMessages, SendDesk
from session_host.turns import Turns
from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared.db import connections, hosts
from shared.db.pool import Pool
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, HostId
from shared.domain.jid import Person
from shared.hosts.protocol import Refused
from shared.queues.runtime import Queues

TOKEN = "a-host-token-for-tests"
T = TypeVar("T")


class NoFiles:
    """A media store in which nothing is."""

    @asynccontextmanager
    async def opened(self, media_id: str) -> AsyncIterator[Refused]:
        yield Refused(code="MEDIA_GONE", detail=f"no {media_id}", permanent=True)


class SharedMemory:
    """What hosts have learned of numbers, without a database: kept for ever. `readdressed` are messages' new chats."""

    def __init__(self) -> None:
        self.known: dict[tuple[ConnectionId, str], Person | None] = {}
        self.readdressed: dict[UUID, str] = {}
        self.is_away = False

    async def recall(self, session: ConnectionId, phones: Sequence[str]) -> dict[str, Person | None]:
        self._require()
        return {phone: self.known[session, phone] for phone in phones if (session, phone) in self.known}

    async def learn(self, session: ConnectionId, answers: Mapping[str, Person | None]) -> None:
        self._require()
        self.known.update({(session, phone): person for phone, person in answers.items()})

    async def forget(self, session: ConnectionId, phones: Sequence[str]) -> None:
        self._require()
        for phone in phones:
            self.known.pop((session, phone), None)

    async def readdress(self, message_id: UUID, jid: str) -> None:
        self._require()
        self.readdressed[message_id] = jid

    def _require(self) -> None:
        if self.is_away:
            raise OSError("Postgres is away")


class SimulatedHost:
    """One host; `roster.run` goes on until the end unless the test paused it."""

    def __init__(self, name: HostId, roster: Roster, feed: JournalFeed, journal: Journal, address: str) -> None:
        self.id = name
        self.roster = roster
        self.feed = feed
        self.journal = journal
        self.address = address
        self.tasks: list[asyncio.Task[None]] = []

    def die(self) -> None:
        """Stop renewing and feeding, as a process that was killed does."""
        for task in self.tasks:
            task.cancel()


@asynccontextmanager
async def simulated_host(  # noqa: PLR0913 - what a host has
    name: str,
    queues: Queues,
    server: SimulatedWhatsApp,
    data_dir: Path,
    *,
    lease_s: float = 2.0,
    capacity: int = 5,
    moves_at_once: int = 0,
    connects_at_once: int = 10,
    files: FilesOfMessages | None = None,
) -> AsyncIterator[SimulatedHost]:
    host = HostId(name)
    journal = Journal(data_dir, host)
    feed = JournalFeed(journal, queues, server)
    scope = asyncio.TaskGroup()
    async with scope as group:
        roster = Roster(host, queues, feed, group, capacity=capacity, lease_s=lease_s, moves_at_once=moves_at_once)
        habits = Habits(queues, group, Proxies(queues.settings, default=None))
        numbers = KnownNumbers(PostgresMemory(queues.pool), server)
        desk = SendDesk(host, server, numbers, files or NoFiles(), group)
        habits.equip(is_held=lambda one: roster.get(one) is not None, settle=desk.settle)
        means = Means(
            make_client=habits.over(server.make_client),
            records=SessionRecords(queues),
            fence=Fence(),
            turns=Turns(connects_at_once),
            on_leak=lambda: None,
        )
        roster.equip(means, Handover(queues, desk))
        runner = web.AppRunner(Commands(roster, desk, numbers, habits).application(token=TOKEN), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await hosts.register(queues.pool, host, address=address, capacity=capacity)
        made = SimulatedHost(host, roster, feed, journal, address)
        made.tasks = [group.create_task(roster.run()), group.create_task(feed.run()), group.create_task(habits.run())]
        yield made
        made.die()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await roster.close()
        await runner.cleanup()
        journal.close()


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 10) -> T:
    """Ask again until the answer is true."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
    return found


async def new_connection(pool: Pool, *, pairing_phone: str | None = None) -> ConnectionId:
    connection_id = ConnectionId(uuid4())
    async with pool.acquire() as connection:
        await connections.insert(
            connection,
            connection_id,
            tenant_id=DEFAULT_TENANT,
            label="shop",
            external_id=None,
            config={},
            metadata={},
            pairing_method="code" if pairing_phone else "qr",
            pairing_phone=pairing_phone,
        )
    return connection_id


async def row(pool: Pool, connection_id: ConnectionId) -> Any:
    return await pool.fetchrow("SELECT * FROM connections WHERE id = $1", connection_id)


async def until_status(pool: Pool, connection_id: ConnectionId, *wanted: str, within_s: float = 10) -> Any:
    async def look() -> Any:
        found = await row(pool, connection_id)
        return found if found["status"] in wanted else None

    return await until(look, within_s=within_s)


async def until_qr(pool: Pool, connection_id: ConnectionId, *, but: str | None = None) -> str:
    async def look() -> str | None:
        code: str | None = (await row(pool, connection_id))["qr_code"]
        return code if code != but else None

    return str(await until(look))
