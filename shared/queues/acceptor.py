"""The acceptor: requests to send that come in at one moment share a transaction; each is answered after its commit.

What comes in while a batch commits is the next batch, so the busier it is the larger they get. The lane that all share
waits for nobody's lock: a request whose connection or key another transaction holds comes along with the next batch,
and goes on by itself, waiting, when there is none. So a connection that is held for long stops nobody else.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from shared.db.pool import AWAY
from shared.domain.errors import Conflict, NotFound
from shared.queues.send_requests import Answer, Ask, Held, Served

# Messages in one transaction: some tens of milliseconds, for which the next batch waits.
_AT_MOST: Final = 200
# An ask for more than so many goes by itself, beside the lane.
_LARGE: Final = 100
# So often an ask whose connection is held comes along with the next batch.
_TRIES: Final = 3

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Waiting:
    ask: Ask
    answer: "asyncio.Future[Served]"
    asked_at: float
    tries: int = 0
    held: Held = Held.CONNECTION

    @property
    def line(self) -> Hashable:
        """What it waits for when it waits beside the lane."""
        return self.ask.keyed.name if self.held is Held.KEY and self.ask.keyed else self.ask.connection_id

    @property
    def size(self) -> int:
        return len(self.ask.requests)


@dataclass(slots=True)
class _Line:
    """Asks of one connection, or of one key, that go beside the lane, one transaction after the other."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None


class Commit(Protocol):
    """Accepts the asks in a transaction of its own. Without `waits`, what another transaction has is `Held`."""

    async def __call__(self, asks: Sequence[Ask], *, waits: bool) -> Sequence[Answer]: ...


class Acceptor:
    """One process's, over `commit`. Asks of one connection that wait are served in the order in which they came.

    `patience_s`: one that was not begun after so long fails with TimeoutError, and nothing was done. At most
    `lines_at_once` transactions run beside the lane.
    """

    def __init__(self, commit: Commit, *, patience_s: float, lines_at_once: int) -> None:
        self._commit = commit
        self._patience_s = patience_s
        self._waiting: deque[_Waiting] = deque()
        self._working: asyncio.Task[None] | None = None
        self._lines: dict[Hashable, _Line] = {}
        self._room = asyncio.Semaphore(lines_at_once)

    async def accept(self, ask: Ask) -> Served:
        """Accept the messages and return after the commit. A caller that is cancelled has or has not sent them.

        Raises NotFound for a connection that is not there for the caller, Conflict for a key that was used with another
        body, what else its own ask caused, and one of `AWAY` when Postgres does not answer; calling again is safe when
        the ask has a key or its messages have ids.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(ask, loop.create_future(), loop.time())
        if ask.connection_id in self._lines or waiting.size > _LARGE:
            self._beside(waiting)
        else:
            self._waiting.append(waiting)
            if self._working is None:
                # It belongs to no caller: the others go on when one is cancelled.
                self._working = asyncio.ensure_future(self._work())
        return await waiting.answer

    async def close(self) -> None:
        """Wait until what was asked for is done."""
        while tasks := [task for task in (self._working, *(line.task for line in self._lines.values())) if task]:
            await asyncio.wait(tasks)

    async def _work(self) -> None:
        try:
            # Whoever else calls in this turn of the loop comes along.
            await asyncio.sleep(0)
            while self._waiting:
                for held in reversed(await self._serve(self._take(self._waiting), waits=False)):
                    held.tries += 1
                    if self._waiting and held.tries < _TRIES:
                        self._waiting.appendleft(held)
                    else:
                        self._beside(held, first=True)
        finally:
            self._working = None
            _abandon(self._waiting)

    def _beside(self, waiting: _Waiting, *, first: bool = False) -> None:
        """Let it wait for its connection, or its key, without keeping others waiting."""
        line = self._lines.setdefault(waiting.line, _Line())
        (line.waiting.appendleft if first else line.waiting.append)(waiting)
        if line.task is None:
            line.task = asyncio.ensure_future(self._work_line(waiting.line, line))

    async def _work_line(self, name: Hashable, line: _Line) -> None:
        try:
            while line.waiting:
                async with self._room:
                    held = await self._serve(self._take(line.waiting), waits=True)
                line.waiting.extendleft(reversed(held))
        finally:
            del self._lines[name]
            _abandon(line.waiting)

    def _take(self, waiting: deque[_Waiting]) -> list[_Waiting]:
        """The next batch: at most so many messages or one ask, no idempotency key twice."""
        oldest = asyncio.get_running_loop().time() - self._patience_s
        taken: list[_Waiting] = []
        later: list[_Waiting] = []
        keys = set()
        room = _AT_MOST
        while waiting and (room >= waiting[0].size or not taken):
            one = waiting.popleft()
            key = one.ask.keyed and one.ask.keyed.name
            if one.answer.done():
                continue
            if one.asked_at < oldest:
                one.answer.set_exception(TimeoutError())
            elif waiting is self._waiting and one.ask.connection_id in self._lines:
                self._beside(one)
            elif key in keys:
                later.append(one)  # it is answered with what the first one got
            else:
                taken.append(one)
                room -= one.size
                if key:
                    keys.add(key)
        waiting.extendleft(reversed(later))
        return taken

    async def _serve(self, taken: Sequence[_Waiting], *, waits: bool) -> list[_Waiting]:
        """Answer them after one commit, and return those that are held; a batch that fails is served one by one."""
        if not taken:
            return []
        held = []
        try:
            answers = await self._commit([one.ask for one in taken], waits=waits)
            for one, answer in zip(taken, answers, strict=True):
                if isinstance(answer, Held):
                    one.held = answer
                    held.append(one)
                elif not one.answer.done():
                    _settle(one.answer, answer)
        except Exception as error:  # noqa: BLE001 - it is raised again, in each caller
            if len(taken) > 1 and not _is_away(error):
                log.warning("accept_batch_failed", asks=len(taken), error=type(error).__name__)
                # One of them is wrong: each by itself, to spoil no other.
                return [held for one in taken for held in await self._serve([one], waits=waits)]
            for one in taken:
                if not one.answer.done():
                    one.answer.set_exception(error)
        except BaseException:
            _abandon(taken)
            raise
        return held


def _settle(waiting: "asyncio.Future[Served]", answer: Served | NotFound | Conflict) -> None:
    if isinstance(answer, NotFound | Conflict):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def _is_away(error: Exception) -> bool:
    # asyncpg calls a value that it cannot encode an error of the interface too.
    return isinstance(error, AWAY) and not isinstance(error, ValueError)


def _abandon(waiting: "Sequence[_Waiting] | deque[_Waiting]") -> None:
    for one in waiting:
        one.answer.cancel()
