"""What a connection's config makes of messages that come in: dropped and counted, or marked as read once stored."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from functions import inbound_habits, message_receive
from functions.resources import Resources
from shared.db import connections, lifecycle, watch, writes
from shared.db.pool import Pool, open_pool
from shared.domain.errors import HostUnreachable
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Outcome, Retry, Snooze
from shared.domain.writes import EnqueueJob
from shared.hosts.protocol import NotConnected, Read, Refused, Shown

ANA = "5511900000001@s.whatsapp.net"
GROUP, STATUS, CHANNEL = "120363000000000001@g.us", "status@broadcast", "120363000000000002@newsletter"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Hosts:
    """A host that gives these answers, then says yes."""

    answers: list[Any] = field(default_factory=list)
    asked: list[Read] = field(default_factory=list)

    async def read(self, _owner: object, command: Read) -> Any:
        self.asked.append(command)
        answer = self.answers.pop(0) if self.answers else Shown()
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class World:
    pool: Pool
    session: ConnectionId
    hosts: Hosts = field(default_factory=Hosts)
    number: int = 0

    async def configure(self, **config: Any) -> None:
        async with self.pool.acquire() as connection:
            await lifecycle.update(connection, self.session, label="a", external_id=None, config=config, metadata={})

    async def comes_in(self, chat: str, *, sender: str = ANA, **more: Any) -> tuple[Outcome, list[EnqueueJob]]:
        self.number += 1
        data = {
            "sessionId": str(self.session),
            "waMessageId": f"3A{self.number:04}",
            "chat": chat,
            "from": sender,
            "participant": None if chat == sender else sender,
            "fromMe": False,
            "type": "text",
            "content": {"text": "oi"},
            "timestamp": 1_767_225_600_000,
            **more,
        }
        [outcome] = await message_receive.handle([self._job("receive-message", data)], self.use())
        assert isinstance(outcome, Done), outcome
        jobs = [one for one in outcome.writes if isinstance(one, EnqueueJob)]
        async with self.pool.acquire() as connection, connection.transaction():
            await writes.apply(connection, [one for one in outcome.writes if not isinstance(one, EnqueueJob)])
        return outcome, jobs

    async def marks(self, data: Mapping[str, Any], *, now: datetime = BEGAN) -> Outcome:
        return await inbound_habits.mark_read(self._job(inbound_habits.MARK_READ, data), self.use(now))

    async def stored(self) -> list[str]:
        rows = await self.pool.fetch("SELECT jid FROM messages WHERE connection_id = $1 ORDER BY jid", self.session)
        return [row["jid"] for row in rows]

    async def events(self) -> list[str]:
        rows = await self.pool.fetch("SELECT type FROM events WHERE connection_id = $1 ORDER BY position", self.session)
        return [row["type"] for row in rows]

    def use(self, now: datetime = BEGAN) -> Resources:
        return cast("Resources", SimpleNamespace(pool=self.pool, hosts=self.hosts, now=lambda: now))

    def _job(self, name: str, data: Any) -> Job:
        return Job(
            pk=1,
            fence=1,
            job_id="job",
            queue=QueueName.MESSAGE_RECEIVE,
            name=name,
            data=data,
            attempt=1,
            max_attempts=4,
            stalled=0,
            group=str(self.session),
            order_key=None,
            priority=7,
            created_at=BEGAN,
        )


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    pool = await open_pool(database_url, max_size=2)
    session = ConnectionId(uuid4())
    async with pool.acquire() as connection:
        await connections.insert(
            connection, session, tenant_id=DEFAULT_TENANT, label="a", external_id=None, config={}, metadata={}
        )
    yield World(pool, session)
    await pool.close()


async def _own(world: World) -> None:
    """A host holds the session, which is connected."""
    await world.pool.execute("INSERT INTO hosts (id, address, capacity) VALUES ('h', 'http://h', 1)")
    await world.pool.execute(
        "UPDATE connections SET status = 'connected', host_id = 'h', lease_epoch = 1, lease_until = now() + '1 h'"
    )


async def test_ignored_chats_are_dropped_and_counted_until_the_setting_is_turned_off(world: World) -> None:
    await world.configure(ignore_groups=True)

    for chat in (GROUP, GROUP, STATUS, CHANNEL, ANA):
        await world.comes_in(chat)

    assert (await world.stored(), await world.events()) == ([ANA], ["message.received"])
    async with world.pool.acquire() as connection:
        totals = await watch.totals(connection)
    counted = {labels[0]: value for (metric, labels), value in totals.items() if metric == "messages_ignored"}
    assert counted == {"groups": 2, "status": 1, "newsletters": 1}

    await world.configure(ignore_status=False, ignore_newsletters=False)
    for chat in (GROUP, STATUS, CHANNEL):
        await world.comes_in(chat)
    assert await world.stored() == sorted([ANA, GROUP, STATUS, CHANNEL])


async def test_a_message_that_is_stored_is_marked_as_read_only_where_the_config_says_so(world: World) -> None:
    _, unasked = await world.comes_in(ANA)
    await world.configure(read_messages=True, ignore_status=False)

    _, asked = await world.comes_in(ANA)
    _, in_group = await world.comes_in(GROUP)
    _, status = await world.comes_in(STATUS)
    _, own = await world.comes_in(ANA, fromMe=True)
    _, reaction = await world.comes_in(ANA, type="reaction", content={"message_id": "3A0001", "emoji": "x"})
    _, old = await world.comes_in(ANA, backfilled=True)

    assert (unasked, status, own, reaction, old) == ([], [], [], [], [])
    data = [one.job.data for one in (*asked, *in_group)]
    assert [(one["chat"], one["sender"], one["waMessageId"]) for one in data] == [
        (ANA, ANA, "3A0002"),
        (GROUP, ANA, "3A0003"),
    ]


async def test_marking_waits_for_the_session_and_gives_up_when_nobody_wants_it(world: World) -> None:
    await world.configure(read_messages=True)
    [write] = (await world.comes_in(ANA))[1]
    data = write.job.data

    offline = await world.marks(data, now=BEGAN + timedelta(minutes=1))
    too_late = await world.marks(data, now=BEGAN + timedelta(days=2))
    await _own(world)
    world.hosts.answers = [HostUnreachable("gone"), Refused(code="UNAVAILABLE", detail="no"), NotConnected(), Shown()]
    answers = [type(await world.marks(data)) for _ in range(4)]
    await world.configure()
    unwanted = await world.marks(data)

    assert (offline, type(too_late)) == (Snooze(delay_s=30.0), Discard)
    assert answers == [Retry, Retry, Snooze, Done]
    assert world.hosts.asked[-1].messages[0].model_dump() == {"chat": ANA, "sender": ANA, "wire_ids": ["3A0001"]}
    assert (type(unwanted), len(world.hosts.asked)) == (Discard, 4)
