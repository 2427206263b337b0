"""Up to which position the event log is settled: what is there stays as it is, and nothing comes in between later.

Positions are given in order and committed in any order. A look takes a mark: the position given last, and the
transactions that may still commit one up to it (those with a write lock on `events`). Once a later look sees none of
these, the log is settled up to the mark. Mostly nobody writes at that moment, and one look is enough.

A transaction that has written an event and stays open holds the log back for everybody, as nobody can know what it
will add; others do not matter, however long they are. It needs the primary: a replica does not show its locks.
"""

import asyncio
import time
from typing import Final

import structlog

from shared.db import events
from shared.db.events import Mark
from shared.db.pool import Pool

_FIRST_PAUSE_S: Final = 0.005
_LAST_PAUSE_S: Final = 0.1
_KEEP_EVERY_S: Final = 5.0
_SAY_AFTER_S: Final = 10.0  # a transaction of ours takes milliseconds

_log = structlog.get_logger()


class LogRewound(Exception):
    """The log is shorter than it was: another server answers, to which not everything was copied. Begin anew."""


class Horizon:
    """What one process knows; `settled` only grows, but for LogRewound. Make one per pool, and a Look per reader."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept_at = float("-inf")
        self.settled = 0

    async def begin(self) -> None:
        """Before the first look of the process: start from what other processes knew."""
        if self.settled == 0:
            self.settled = max(self.settled, await events.kept(self._pool))

    async def rewind(self) -> None:
        """Forget how far the log was settled, here and for processes that start later."""
        self.settled = 0
        await events.forget_kept(self._pool)

    async def raise_to(self, position: int) -> None:
        """Note that the log is settled up to `position`."""
        now = time.monotonic()
        if position <= self.settled:
            return
        self.settled = position
        if now - self._kept_at > _KEEP_EVERY_S:
            self._kept_at = now
            await events.keep(self._pool, position)

    async def reach(self, *, patience_s: float) -> int:
        """Wait until all that was written before this call is settled, and return up to where the log is.

        With a writer that stays open longer than `patience_s` it is the last position that is known to be settled.
        """
        look = Look(self._pool, self)
        ends_at, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
        goal = await look.again()
        while self.settled < goal and time.monotonic() < ends_at:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            await look.again()
        return self.settled


class Look:
    """One reader's looks, one after another: what an older look saw says nothing about a newer mark."""

    def __init__(self, pool: Pool, horizon: Horizon) -> None:
        self._pool = pool
        self._horizon = horizon
        self._pending: Mark | None = None
        self._pending_since = 0.0
        self._has_said = False

    @property
    def is_waiting(self) -> bool:
        """Whether there is more than what is settled: the next look may tell."""
        return self._pending is not None

    async def again(self) -> int:
        """Take a mark and return the position given last; raises the horizon as far as this proves. LogRewound."""
        await self._horizon.begin()
        known = self._horizon.settled
        mark = await events.take_mark(self._pool)
        if mark.last_given < known:
            await self._horizon.rewind()
            raise LogRewound
        if self._pending is not None and not self._pending.writers & mark.writers:
            await self._horizon.raise_to(self._pending.last_given)
            self._pending = None
        if not mark.writers:
            await self._horizon.raise_to(mark.last_given)
            self._pending = None
        elif self._pending is None and mark.last_given > self._horizon.settled:
            self._pending, self._pending_since, self._has_said = mark, time.monotonic(), False
        self._say_when_stuck()
        return mark.last_given

    def _say_when_stuck(self) -> None:
        if self._pending is not None and not self._has_said and time.monotonic() - self._pending_since > _SAY_AFTER_S:
            self._has_said = True
            _log.warning("event_log_held_back", transactions=sorted(self._pending.writers), seconds=_SAY_AFTER_S)
