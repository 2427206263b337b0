"""The enqueuer: jobs that many callers make at once share a statement and a commit; each is answered after the commit.

A commit a job is what makes enqueueing slow, and callers of one turn of the loop may just as well share theirs. What
comes in while a batch commits is the next batch, so the busier it is the larger they get.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from shared.db.pool import AWAY, COLLISION, Connection, Pool
from shared.domain.jobs import Enqueued, NewJob
from shared.queues.lane import Lane

_AT_MOST: Final = 200  # jobs in one transaction: a few milliseconds

log = structlog.get_logger(__name__)

# Makes the jobs in a transaction of their own and says what became of each, in order.
Commit = Callable[[Connection, Sequence[NewJob]], Awaitable[list[Enqueued]]]


class Enqueuer:
    """One process's, over `commit`. Jobs are made in the order of the calls, on one connection while there are any."""

    def __init__(self, pool: Pool, commit: Commit) -> None:
        self._lane = Lane(pool)
        self._commit = commit
        self._waiting: deque[tuple[NewJob, asyncio.Future[Enqueued]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Make the job and return after its commit. A caller that is cancelled has or has not made its job.

        Raises what its own job caused, or one of `AWAY` when Postgres does not answer; calling again is safe.
        """
        answer: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._working is None:
            # It belongs to no caller: the others go on when one is cancelled.
            self._working = asyncio.ensure_future(self._work())
        return await answer

    async def close(self) -> None:
        """Wait until what was asked for is made."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        try:
            # Whoever else calls in this turn of the loop comes along.
            await asyncio.sleep(0)
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(_AT_MOST, len(self._waiting)))]
                if wanted := [(job, answer) for job, answer in taken if not answer.done()]:
                    await self._make(wanted)
        finally:
            self._working = None
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()
            await self._lane.close()

    async def _make(self, wanted: Sequence[tuple[NewJob, "asyncio.Future[Enqueued]"]]) -> None:
        try:
            made = await self._commit(await self._lane.open(), [job for job, _ in wanted])
            for (_, answer), one in zip(wanted, made, strict=True):
                if not answer.done():
                    answer.set_result(one)
        except Exception as error:  # noqa: BLE001 - it is raised again, in each caller
            if isinstance(error, AWAY):
                await self._lane.drop()
            elif len(wanted) > 1 and not isinstance(error, COLLISION):
                log.warning("enqueue_batch_failed", jobs=len(wanted), error=type(error).__name__)
                # One of them is wrong: each by itself, to spoil no other.
                for one_wanted in wanted:
                    await self._make([one_wanted])
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            for _, answer in wanted:
                answer.cancel()  # this was cancelled; a caller that has its answer does not notice
