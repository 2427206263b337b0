"""Calls that come together share a statement and its commit; each is answered after the commit.

A commit a call is what makes writing slow, and callers of one turn of the loop may just as well share theirs. What
comes in while a batch commits is the next batch, so the busier it is the larger they get.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

from shared.db.pool import AWAY, COLLISION, Connection, Pool
from shared.queues.lane import Lane

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

_AT_MOST: Final = 200  # calls in one transaction: a few milliseconds
# However long a commit took, nobody waits for longer than this for the next one to begin.
REST_AT_MOST_S: Final = 0.005

log = structlog.get_logger(__name__)


class Together(Generic[Ask, Answer]):
    """One process's calls of one kind, served in their order, on one connection that is held while there are any.

    `commit` does what a batch of them asks for in a transaction of its own, and gives an answer for each, in order.

    `rests`: what comes in as long again after a commit as it took comes along with the next one, as most of what a
    batch costs is the same for one call as for ten. Without it, what comes in at once.
    """

    def __init__(
        self,
        pool: Pool,
        commit: Callable[[Connection, Sequence[Ask]], Awaitable[Sequence[Answer]]],
        *,
        rests: bool = True,
    ) -> None:
        self._lane = Lane(pool)
        self._commit = commit
        self._rests = rests
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def call(self, ask: Ask) -> Answer:
        """Return the answer, after the commit. A caller that is cancelled has or has not got what it asked for.

        Raises what its own call caused, or one of `AWAY` when Postgres does not answer; then it may have committed.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._working is None:
            # It belongs to no caller: the others go on when one is cancelled.
            self._working = asyncio.ensure_future(self._work())
        return await answer

    async def close(self) -> None:
        """Wait until what was asked for is done."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        try:
            # Whoever else calls in this turn of the loop comes along.
            await asyncio.sleep(0)
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(_AT_MOST, len(self._waiting)))]
                if wanted := [(ask, answer) for ask, answer in taken if not answer.done()]:
                    began = time.monotonic()
                    await self._serve(wanted)
                    # Those who call again with their answer in hand come along too.
                    await asyncio.sleep(min(time.monotonic() - began, REST_AT_MOST_S) if self._rests else 0)
        finally:
            self._working = None
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()
            await self._lane.close()

    async def _serve(self, wanted: Sequence[tuple[Ask, "asyncio.Future[Answer]"]]) -> None:
        try:
            given = await self._commit(await self._lane.open(), [ask for ask, _ in wanted])
            for (_, answer), one in zip(wanted, given, strict=True):
                if not answer.done():
                    answer.set_result(one)
        except Exception as error:  # noqa: BLE001 - it is raised again, in each caller
            if isinstance(error, AWAY):
                await self._lane.drop()
            elif len(wanted) > 1 and not isinstance(error, COLLISION):
                log.warning("shared_commit_failed", calls=len(wanted), error=type(error).__name__)
                # One of them is wrong: each by itself, to spoil no other.
                for one_wanted in wanted:
                    await self._serve([one_wanted])
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            for _, answer in wanted:
                answer.cancel()  # this was cancelled; a caller that has its answer does not notice
