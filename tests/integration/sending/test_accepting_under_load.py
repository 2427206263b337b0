"""Two processes accept while a worker sends and connections come and go, are paused and deleted.

Each message is accepted once, in the order of its chat, and nobody deadlocks.
"""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from api import lifecycle
from api.auth import ADMIN
from api.resources import Resources as ApiResources
from shared.db import connections
from shared.db.idempotency import Before
from shared.db.pool import connect
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.message import MessageType
from shared.domain.session import SessionStatus
from shared.queues.runtime import Queues
from shared.queues.send_requests import Ask, SendRequest, SendResult
from tests.integration.sending.conftest import Office

_CLIENTS = 8
_EACH = 12


class Shop:
    """Clients of several connections, each with a chat of its own, who send one message after the other."""

    def __init__(self, office: Office, other: Queues, sessions: list[str]) -> None:
        self._processes = (office.queues, other)
        self._sessions = sessions
        self.accepted: dict[tuple[str, int], list[UUID]] = defaultdict(list)
        self.refused: list[Exception] = []

    async def client(self, number: int) -> None:
        """Each message is asked for in both processes at once, under one id."""
        for nth in range(_EACH):
            session = self._sessions[(number + nth) % len(self._sessions)]
            asked = [self._ask(process, session, number, nth) for process in self._processes]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            self._take(session, number, answers)

    async def _ask(self, process: Queues, session: str, number: int, nth: int) -> SendResult:
        request = SendRequest(
            to=f"5511999990{number:03}", type=MessageType.TEXT, payload={"text": "a"}, message_id=f"{number}-{nth}"
        )
        served = await process.accept(Ask(connection_id=UUID(session), tenant_id=DEFAULT_TENANT, requests=[request]))
        assert not isinstance(served, Before)
        if isinstance(served[0], Conflict):
            raise served[0]
        return served[0]

    def _take(self, session: str, number: int, answers: list[SendResult | BaseException]) -> None:
        results = [answer for answer in answers if isinstance(answer, SendResult)]
        for answer in answers:
            if isinstance(answer, Conflict | NotFound):
                self.refused.append(answer)
            elif not isinstance(answer, SendResult):
                raise answer
        if results:
            assert len({result.id for result in results}) == 1
            assert sum(not result.deduplicated for result in results) == 1
            self.accepted[session, number].append(results[0].id)


async def _disturb(office: Office, sessions: list[str], done: asyncio.Event) -> None:
    """Connections lose their line and find it again, are paused and resumed; the first is deleted on the way."""
    turn = 0
    while not done.is_set():
        session = ConnectionId(UUID(sessions[1 + turn % (len(sessions) - 1)]))
        async with office.queues.transaction() as tx:
            await connections.lock(tx.connection, session, tenant_id=DEFAULT_TENANT, allowed=None)
            to = SessionStatus.DISCONNECTED if turn % 2 else SessionStatus.CONNECTED
            await connections.move(tx.connection, session, to, reason="test")
            await connections.set_paused(tx.connection, session, paused=turn % 3 == 0)
        if turn == 3:
            parts = cast("ApiResources", SimpleNamespace(queues=office.queues))
            await lifecycle.delete(parts, ADMIN, UUID(sessions[0]))
        turn += 1
        await asyncio.sleep(0)


async def _work(office: Office, done: asyncio.Event) -> None:
    while not done.is_set():
        await office.drain()
        await asyncio.sleep(0)


async def test_what_is_accepted_is_accepted_once_and_in_order_whatever_happens_meanwhile(
    office: Office, database_url: str
) -> None:
    sessions = [await office.session() for _ in range(4)]
    done = asyncio.Event()
    async with await Queues.open(office.queues.settings) as other, asyncio.timeout(60), asyncio.TaskGroup() as group:
        shop = Shop(office, other, sessions)
        around = [group.create_task(_disturb(office, sessions, done)), group.create_task(_work(office, done))]
        await asyncio.gather(*(shop.client(number) for number in range(_CLIENTS)))
        done.set()
        await asyncio.gather(*around)

    for (session, number), ids in shop.accepted.items():
        assert await _placed(office, session, number) == ids
    assert {type(error) for error in shop.refused} <= {NotFound}
    assert await _rows(office) == {"messages": sum(map(len, shop.accepted.values())), "unfit": 0, "left": 0}
    assert len({one.message_id for one in office.host.sends}) == len(office.host.sends)
    await office.queues.close()
    assert await _deadlocks(database_url) == 0


async def _placed(office: Office, session: str, number: int) -> list[UUID]:
    """The messages of a client's chat in the order in which they were enqueued."""
    rows = await office.queues.pool.fetch(
        "SELECT m.id FROM messages m JOIN jobs j ON j.pk = m.job_pk"
        " WHERE m.connection_id = $1 AND m.phone = $2 ORDER BY j.pk",
        session,
        f"5511999990{number:03}",
    )
    return [row["id"] for row in rows]


async def _rows(office: Office) -> dict[str, Any]:
    """How many messages there are, groups whose counters are wrong, and waiting messages of the deleted connection."""
    row = await office.queues.pool.fetchrow(
        """
        SELECT (SELECT count(*) FROM messages) AS messages,
               (SELECT count(*) FROM job_groups g
                 CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE j.state = 'waiting') AS pending,
                                            count(*) FILTER (WHERE j.state = 'active') AS busy
                                       FROM jobs j WHERE j.queue = g.queue AND j.grp = g.grp) found
                 WHERE (g.pending, g.busy) <> (found.pending, found.busy)) AS unfit,
               (SELECT count(*) FROM messages m JOIN connections c ON c.id = m.connection_id
                 WHERE c.deleted_at IS NOT NULL AND m.status IN ('queued', 'scheduled')) AS left
        """
    )
    assert row is not None
    return dict(row)


async def _deadlocks(database_url: str) -> int:
    """Counted once everybody else has left, as each process tells what it met when it ends."""
    async with connect(database_url) as connection, asyncio.timeout(20):
        while await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ):
            await connection.execute("SELECT pg_sleep(0.05)")
        found: int = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    return found
