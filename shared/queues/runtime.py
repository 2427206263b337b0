"""`Queues`: one process's pool and bell, and transactions that ring after their commit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self, TypeVar

from shared.db import writes as domain_writes
from shared.db.pool import AWAY, COLLISION, COMMAND_TIMEOUT_S, Connection, Pool, open_pool
from shared.db.sql import load
from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Enqueued, JobState, NewJob, QueueName
from shared.domain.webhook import fan_out_job
from shared.domain.writes import EnqueueJob, Write
from shared.failpoints import reach
from shared.queues import accepting, ledger
from shared.queues.acceptor import Acceptor
from shared.queues.bells import Bell, open_bell
from shared.queues.outage import Outage
from shared.queues.send_requests import Answer, Ask, Served
from shared.queues.together import Together
from shared.settings import Settings

T = TypeVar("T")

_sql: Final = load("drain")

# While the bell's transport is away, only one ring a second finds out whether it is back; the others cost nothing.
_RING_AGAIN_S: Final = 1.0
# Whoever enqueues waits for the ring.
_RING_TIMEOUT_S: Final = 0.25
_CLOSE_S: Final = 2.0
# A connection that died without a word does not answer at all.
_THAW_S: Final = 2.0
_COLLISION_TRIES: Final = 5


class Transaction:
    """One database transaction, and the queues to ring once it is committed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.to_ring: set[QueueName] = set()
        self._to_fan_out: set[ConnectionId | None] = set()

    def ring(self, *queues: QueueName) -> None:
        """Ring these queues after the commit: for whoever makes jobs claimable without `enqueue`."""
        self.to_ring.update(queues)

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Make the jobs and say what became of each, in order; a job whose id lives already is not made again."""
        answers = await ledger.enqueue(self.connection, jobs)
        self.to_ring |= claimable(jobs, answers)
        return answers

    async def enqueue_once(self, job: NewJob) -> bool:
        """Make the job unless one of its id was ever made and is still kept; say whether it was made."""
        await self.connection.execute(_sql.claim_id, job.job_id)
        if await self.connection.fetchval(_sql.id_was_used, job.job_id):
            return False
        await self.enqueue([job])
        return True

    async def apply(self, writes: Sequence[Write]) -> None:
        """Apply the domain's writes, new jobs first, and see that webhooks are made of the events they record."""
        # Jobs before rows: groups are locked before messages and events (docs/architecture.md, "Lock order").
        await self.enqueue([write.job for write in writes if isinstance(write, EnqueueJob)])
        if rest := [write for write in writes if not isinstance(write, EnqueueJob)]:
            applied = await domain_writes.apply(self.connection, rest)
            self.fan_out(*applied.fan_out)
            self.ring(*applied.ready)

    def fan_out(self, *connections: ConnectionId | None) -> None:
        """Have webhooks made of these connections' new events; one job a connection, enqueued before the commit.

        None: of the events that belong to no connection.
        """
        self._to_fan_out.update(connections)

    async def enqueue_fan_outs(self) -> None:
        """The last step before the commit, in one order for everybody, as two of these meet on the same job id."""
        connections, self._to_fan_out = sorted(self._to_fan_out, key=str), set()
        await self.enqueue([fan_out_job(connection) for connection in connections])


class Queues:
    """One process's way to the queues. Open it once and close it at the end; it is safe to share between tasks."""

    def __init__(self, settings: Settings, pool: Pool, bell: Bell, *, patience_s: float = COMMAND_TIMEOUT_S) -> None:
        self.settings = settings
        self.pool = pool
        self.bell = bell
        self._enqueuer = Together(pool, self._enqueue, rests=False)
        self._acceptor = Acceptor(self._accept, patience_s=patience_s, lines_at_once=max(1, settings.db_pool_size // 2))
        self._outage = Outage("bell")
        self._ring_again_at = 0.0
        self._local: list[Callable[[set[QueueName]], set[QueueName]]] = []

    @classmethod
    async def open(
        cls, settings: Settings, *, pool_size: int | None = None, patience_s: float = COMMAND_TIMEOUT_S
    ) -> Self:
        """Connect to Postgres; the bell connects when it first rings. Raises Unavailable and Misconfigured.

        `patience_s` bounds each statement, and the wait for a connection.
        """
        bell = open_bell(settings)
        await bell.open()
        pool = await open_pool(
            settings.database_url,
            max_size=pool_size or settings.db_pool_size,
            transaction_pooler=settings.db_transaction_pooler,
            command_timeout_s=patience_s,
            acquire_timeout_s=patience_s,
        )
        return cls(settings, pool, bell, patience_s=patience_s)

    async def close(self) -> None:
        """Give back every connection, those of handlers that were cut off too; again is nothing."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._enqueuer.close()
                await self._acceptor.close()
                await self.bell.close()
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    async def thaw(self) -> None:
        """After this process was frozen: have every connection replaced if one of them has died meanwhile."""
        try:
            async with asyncio.timeout(_THAW_S), self.pool.acquire() as connection:
                await connection.execute("SELECT 1")
        except (*AWAY, OSError):
            await self.pool.expire_connections()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def transaction(self, connection: Connection | None = None) -> AsyncIterator[Transaction]:
        """Commit what the block did, then ring once each queue that got claimable work; an exception rolls back.

        `connection` is used in place of one from the pool.
        """
        if connection is None:
            async with self.pool.acquire() as own, self._transaction(own) as tx:
                yield tx
        else:
            async with self._transaction(connection) as tx:
                yield tx
        await self.ring(tx.to_ring)

    @asynccontextmanager
    async def _transaction(self, connection: Connection) -> AsyncIterator[Transaction]:
        tx = Transaction(connection)
        async with connection.transaction():
            yield tx
            await tx.enqueue_fan_outs()

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Make one job by itself and ring; what others enqueue at the same moment shares its commit.

        Returns after the commit. A job whose id lives already is not made: the answer is the living one.
        """
        return await self._enqueuer.call(job)

    async def accept(self, ask: Ask) -> Served:
        """Accept messages to be sent, and ring; what others ask at the same moment shares its commit.

        Returns after the commit. See Acceptor.
        """
        return await self._acceptor.accept(ask)

    async def _accept(self, asks: Sequence[Ask], *, waits: bool) -> list[Answer]:
        async def once() -> list[Answer]:
            async with self.transaction() as tx:
                answers = await accepting.accept(tx, asks, default_ttl_s=self.settings.send_ttl_seconds, waits=waits)
                reach("api_before_commit")
            reach("api_after_commit")
            return answers

        return await retry_collisions(once)

    async def _enqueue(self, connection: Connection, jobs: Sequence[NewJob]) -> list[Enqueued]:
        async def in_one() -> list[Enqueued]:
            async with connection.transaction():
                return await ledger.enqueue(connection, jobs)

        # One statement is a transaction of its own, for two round trips less.
        is_one = all(job.timeout_s is None for job in jobs)
        answers = await retry_collisions((lambda: ledger.enqueue(connection, jobs)) if is_one else in_one)
        await self.ring(claimable(jobs, answers))
        return answers

    async def ring(self, queues: Collection[QueueName]) -> None:
        """Wake whoever works these queues. Never raises: a bell that is lost costs one sweep."""
        left = set(queues)
        for take in self._local:
            left -= take(left)
        await self.ring_others(left)

    async def ring_others(self, queues: Collection[QueueName]) -> None:
        """As `ring`, past the drains of this process: for one that has its hands full."""
        if not queues or (self._outage.is_on and time.monotonic() < self._ring_again_at):
            return
        try:
            async with asyncio.timeout(_RING_TIMEOUT_S):
                await self.bell.ring(queues)
        except (Unavailable, TimeoutError) as error:
            self._outage.began(error)
            self._ring_again_at = time.monotonic() + _RING_AGAIN_S
        else:
            self._outage.ended()

    async def ring_later(self, queue: QueueName, delay_s: float) -> None:
        """See that the queue is rung in so many seconds, from a process that may be gone by then. Never raises."""
        try:
            async with asyncio.timeout(_RING_TIMEOUT_S):
                await self.bell.ring_later(queue, delay_s)
        except (Unavailable, TimeoutError) as error:
            self._outage.began(error)

    def attach(self, take: Callable[[set[QueueName]], set[QueueName]]) -> Callable[[], None]:
        """Let a drain of this process hear rings first; `take` returns those it sees to. Call the result to stop."""
        self._local.append(take)

        def detach() -> None:
            if take in self._local:
                self._local.remove(take)

        return detach


def claimable(jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> set[QueueName]:
    """The queues in which enqueueing made something claimable."""
    return {
        job.queue
        for job, answer in zip(jobs, answers, strict=True)
        if answer.state is JobState.WAITING and not answer.deduplicated
    }


async def retry_collisions(body: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction again when it met another (deadlock, serialization), five times at most.

    Only for a body that has no effect outside its transaction.
    """
    for attempt in range(1, _COLLISION_TRIES):
        try:
            return await body()
        except COLLISION:
            # Postgres let the other one go on, so a short pause suffices: 10 ms, then 20, 30, 40.
            await asyncio.sleep(attempt * 0.01)
    return await body()


_current: list[Queues] = []


def set_current(queues: Queues | None) -> None:
    """Name the process's own Queues, which Taskiq's `kiq` and the module-level calls use; None forgets it."""
    _current[:] = [] if queues is None else [queues]


def current() -> Queues:
    """The process's own Queues. Raises Misconfigured when nobody opened it."""
    if not _current:
        raise Misconfigured("the queues are not open in this process: call `await initialize_queues()` first.")
    return _current[0]


def has_current() -> bool:
    return bool(_current)
