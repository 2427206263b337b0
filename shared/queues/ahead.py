"""Claim-ahead: one queue's jobs that are claimed before a slot is free, so that quick handlers never wait for Postgres.

A claim costs a few milliseconds however many jobs it brings. Handlers that take little more would stand idle in
between, so a drain keeps about 30 ms of work at hand; handlers that take longer than 30 ms, as sends over a real
network do, get none. What waits here counts as in flight: caps, rates and the order of chats hold as if it ran.
"""

from collections import deque
from collections.abc import Container, Sequence
from typing import Final

from shared.domain.jobs import Job

AT_MOST: Final = 90
_WORK_S: Final = 0.030
# Nothing waits longer, even when handlers turn slow at once or the whole process stands still. Far below a lease (5 s
# in a worker): what is started is still claimed.
HOLD_S: Final = 0.1
# A mean over about the last 16 jobs.
_WEIGHT: Final = 1 / 16
_SLOW_S: Final = 1.0


class Ahead:
    """One queue's buffer, first in, first out. Every `now` is of one monotonic clock, in seconds."""

    def __init__(self, *, slots: int) -> None:
        self._slots = slots
        self._waiting: deque[tuple[float, Job]] = deque()
        self._mean_s: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many jobs should wait here: none before a handler has shown that it is quick."""
        if self._mean_s is None or self._mean_s >= _WORK_S:
            return 0
        return min(AT_MOST, int(self._slots * _WORK_S / max(self._mean_s, 1e-6)))

    def wanted(self, free: int) -> int:
        """How many jobs to claim now for `free` slots and ahead: none until half of what there may be is used up."""
        at_hand, at_most = len(self._waiting), free + self.room
        return at_most - at_hand if at_hand <= at_most // 2 else 0

    def ran(self, duration_s: float) -> None:
        """A handler took this long."""
        self._mean_s = duration_s if self._mean_s is None else self._mean_s + (duration_s - self._mean_s) * _WEIGHT

    def add(self, jobs: Sequence[Job], *, now: float) -> None:
        """Put what a claim brought at the end."""
        self._waiting.extend((now, job) for job in jobs)
        # Workers died with these: if one of them is the cause, no bystander should die with it because it waited here.
        if any(job.stalled for job in jobs):
            self._mean_s = _SLOW_S

    def take(self, count: int, *, now: float, alone: Container[str] = ()) -> list[Job]:
        """The next jobs to start, `count` at most; never one that waited longer than HOLD_S.

        One whose name is in `alone` comes by itself.
        """
        waiting = self._waiting
        if not waiting or waiting[0][0] < now - HOLD_S:
            return []
        jobs = [waiting.popleft()[1]]
        if jobs[0].name not in alone:
            while waiting and len(jobs) < count and waiting[0][1].name not in alone:
                jobs.append(waiting.popleft()[1])
        return jobs

    def take_stale(self, *, now: float) -> list[Job]:
        """Those that waited longer than HOLD_S: not to be started but given back. Handlers are slow for all we know."""
        stale = []
        while self._waiting and self._waiting[0][0] < now - HOLD_S:
            stale.append(self._waiting.popleft()[1])
        if stale:
            self._mean_s = _SLOW_S
        return stale

    def take_all(self) -> list[Job]:
        """Everything, to be given back."""
        jobs = [job for _, job in self._waiting]
        self._waiting.clear()
        return jobs

    def drop(self, pks: set[int]) -> list[Job]:
        """Forget those whose claim was lost, and return them."""
        lost = [job for _, job in self._waiting if job.pk in pks]
        if lost:
            self._waiting = deque(one for one in self._waiting if one[1].pk not in pks)
        return lost
