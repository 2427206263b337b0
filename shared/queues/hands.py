"""The hands of a drain: its free slots, what is claimed for them, and the handlers that run.

A hand is a task that runs claimed jobs one after the other until one of them waits for something; it ends with that
one, and others go on beside it. So a handler that never waits costs no task of its own, and one that does has its task
to itself: its time limit, its cancellation and what it sets in its context touch no other job.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import structlog

from shared.domain.jobs import Job, QueueName
from shared.queues.ahead import HOLD_S, Ahead
from shared.queues.held import Held
from shared.queues.job_log import log_lost
from shared.queues.policies import POLICIES, Runtime
from shared.queues.registry import Work, Works
from shared.queues.runner import Ending, Execute, canceled, conclude
from shared.queues.slots import Slots
from shared.queues.stops import Stop
from shared.queues.tries import Tries

_CANCEL_S: Final = 1.0
# Longer than a receiver near by takes; a 300th of what one that hangs may take.
LENDS_AFTER_S: Final = 0.1
# So long a hand keeps the loop from claims, finishes and everybody else.
_TURN_S: Final = 0.001

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Station:
    """One queue's place of work. `coming` hands were called and have not come yet."""

    queue: QueueName
    work: Work
    slots: Slots
    ahead: Ahead
    is_batched: bool
    coming: int = 0


@dataclass(slots=True, eq=False)
class _Hand:
    """What a hand is at, none when there was nothing to begin, and whether that waits for something."""

    station: _Station
    task: asyncio.Task[None]
    jobs: Sequence[Job] = ()
    began: float = 0.0
    waits: bool = False


class Hands:
    """`on_ended` gets what handlers came to; `on_free` is called when a queue has fewer jobs at hand than before."""

    def __init__(
        self,
        works: Works,
        use: Any,  # noqa: ANN401 - functions.resources.Resources, which this package does not know
        *,
        held: Held,
        slots: Mapping[QueueName, int],
        runtime: Runtime,
        execute: Execute | None,
        on_ended: Callable[[Sequence[Ending]], None],
        on_free: Callable[[QueueName], None],
    ) -> None:
        self._held = held
        self._tries = Tries(use, execute)
        self._works = works
        self._runtime = runtime
        # Taskiq's middlewares may set what they like in the context: each job has its own then.
        self._is_one_each = execute is not None
        self._on_ended = on_ended
        self._on_free = on_free
        self._stations = {
            queue: _Station(
                queue,
                works[queue],
                Slots(count, lends_at_most=POLICIES[queue].lends_at_most),
                Ahead(slots=count),
                is_batched=works[queue].handle_batch is not None and execute is None,
            )
            for queue, count in slots.items()
        }
        self._unstarted: list[Job] = []
        self._room = asyncio.Event()
        self._context = copy_context()
        self._group: asyncio.TaskGroup | None = None

    @property
    def queues(self) -> list[QueueName]:
        """The queues that are worked, most urgent first."""
        return list(self._stations)

    @contextmanager
    def open(self, group: asyncio.TaskGroup, *, limit_s: float) -> Iterator[None]:
        """Run what is taken in this group, until the end of the block or `close`; no try for longer than `limit_s`."""
        self._group = group
        self._tries.limit_s = limit_s
        for station in self._stations.values():
            station.coming = 0  # those of a group that was broken off never came
        self._look_for_room()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Start nothing more: what is claimed and not started is to be given back."""
        self._group = None
        for station in self._stations.values():
            self._unstarted += station.ahead.take_all()

    def has_free(self, queue: QueueName) -> bool:
        """Whether a job of this queue would start at once."""
        return self._stations[queue].slots.free > 0

    async def free_queues(self) -> list[QueueName]:
        """The queues with a free slot, most urgent first; waits until there is one."""
        await self._room.wait()
        return [queue for queue, station in self._stations.items() if station.slots.free > 0]

    def wanted(self, queue: QueueName) -> int:
        """How many jobs of this queue to claim now."""
        station = self._stations[queue]
        return station.ahead.wanted(station.slots.free)

    def take(self, jobs: Sequence[Job], *, asked_at: float) -> None:
        """Start what was claimed, as far as there are slots; the rest waits for one, for HOLD_S at most."""
        self._held.take(jobs)
        now = time.monotonic()
        queues = {job.queue for job in jobs}
        if jobs and now - asked_at + HOLD_S >= min(POLICIES[queue].lease_s(self._runtime) for queue in queues):
            log.warning("claim_came_too_late", jobs=len(jobs), seconds=round(now - asked_at, 1))
            self._unstarted += jobs
            return
        self._end_canceled([job for job in jobs if job.is_canceled])
        for queue, of_queue in groupby(jobs, key=lambda job: job.queue):
            station = self._stations[queue]
            station.ahead.add([job for job in of_queue if not job.is_canceled], now=now)
            self._call_hands(station, 1)
        if self._group is None:
            self.close()
        elif any(station.ahead for station in self._stations.values()):
            asyncio.get_running_loop().call_later(HOLD_S, self._let_go_of_stale)

    def lose(self, pks: set[int]) -> None:
        """Other workers have these claims by now: stop the handlers, and start none for what waits."""
        unstarted = self._drop_ahead(pks)
        self._held.drop(unstarted)
        for job in unstarted + self._held.lose(pks):
            log_lost(job)

    def cancel(self, pks: set[int]) -> None:
        """Nobody wants these any more: stop their handlers, unless they run in a batch, and start none."""
        self._end_canceled(self._drop_ahead(pks))
        for task in self._held.running(pks):
            self._tries.stops.stop(task, Stop.CANCELED)

    def to_give_back(self) -> list[Job]:
        """Take over the claims that nobody will start or that were cut off; they are still held."""
        jobs, self._unstarted = self._unstarted, []
        return jobs

    def has_to_give_back(self) -> bool:
        return bool(self._unstarted)

    async def rest(self, grace_s: float) -> None:
        """Wait for the handlers that run; those that have not ended after `grace_s` are cut off, to be given back."""
        running = self._held.tasks()
        if running:
            await asyncio.wait(running, timeout=grace_s)
        if left := [task for task in running if not task.done()]:
            log.warning("jobs_cut_off", jobs=len(left), grace_s=grace_s)
            self._unstarted += self._held.cancel()
            await asyncio.wait(left, timeout=_CANCEL_S)

    def _drop_ahead(self, pks: set[int]) -> list[Job]:
        return [job for station in self._stations.values() for job in station.ahead.drop(pks)]

    def _let_go_of_stale(self) -> None:
        for station in self._stations.values():
            if stale := station.ahead.take_stale(now=time.monotonic()):
                self._unstarted += stale
                self._call_hands(station, 1)
                self._on_free(station.queue)

    def _end_canceled(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self._on_ended([conclude(self._works[job.queue], job, canceled()) for job in jobs])

    # ---- hands

    def _call_hands(self, station: _Station, count: int) -> None:
        """See that so many hands come for what waits and may start, in the loop's next turn."""
        count = min(count, len(station.ahead), station.slots.free) - station.coming
        if self._group is None:
            return
        for _ in range(count):
            station.coming += 1
            # Of a context of its own: what calls it may be a hand whose jobs have set something.
            self._group.create_task(self._work(station), context=self._context.copy())

    async def _work(self, station: _Station) -> None:
        """A hand, from its coming to its end."""
        station.coming -= 1
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        hand = _Hand(station, task)
        # Cancelled before it is called, unless the handler waits for something.
        noticing = asyncio.get_running_loop().call_soon(self._waits, hand)
        turn_ends = time.perf_counter() + _TURN_S
        try:
            while not hand.waits and (jobs := self._begin(hand)):
                try:
                    endings = await self._tries.run(station.work, jobs)
                finally:
                    self._tries.stops.forget(task)
                    self._held.ended(jobs)
                    station.slots.end([job.fence for job in jobs])
                station.ahead.ran(endings[0].duration_s)
                self._on_ended(endings)
                if self._is_one_each or time.perf_counter() > turn_ends:
                    break
        finally:
            noticing.cancel()
            if hand.jobs:
                # Where one waited the next ones will.
                self._call_hands(station, len(station.ahead) if hand.waits else 1)
            else:
                self._let_go_of_stale()  # which is why there may be some and none to begin
            self._look_for_room()
            self._on_free(station.queue)

    def _begin(self, hand: _Hand) -> Sequence[Job]:
        """What the hand runs now: one job, or all that may run as a batch."""
        station = hand.station
        free = station.slots.free
        if self._group is None or free <= 0:
            hand.jobs = ()
            return hand.jobs
        at_most, alone = (free, station.work.alone) if station.is_batched else (1, ())
        hand.jobs = station.ahead.take(at_most, now=time.monotonic(), alone=alone)
        hand.began = time.perf_counter()
        station.slots.start([job.fence for job in hand.jobs])
        self._held.started(hand.jobs, hand.task)
        return hand.jobs

    def _waits(self, hand: _Hand) -> None:
        """The hand's handler waits for something: watch its time, and let others go on beside it."""
        hand.waits = True
        station = hand.station
        timeout_s = min(self._tries.timeout_s(job) for job in hand.jobs)
        self._tries.stops.watch(hand.task, timeout_s=timeout_s - (time.perf_counter() - hand.began))
        if POLICIES[station.queue].lends_at_most:
            asyncio.get_running_loop().call_later(LENDS_AFTER_S, self._lend, station, hand.jobs)
        self._look_for_room()
        self._call_hands(station, len(station.ahead))

    def _lend(self, station: _Station, jobs: Collection[Job]) -> None:
        """A try that takes this long waits for others: let the next job start beside it."""
        if any([station.slots.overdue(job.fence) for job in jobs]):  # noqa: C419 - each of them
            self._call_hands(station, 1)
            self._look_for_room()
            self._on_free(station.queue)

    def _look_for_room(self) -> None:
        if any(station.slots.free > 0 for station in self._stations.values()):
            self._room.set()
        else:
            self._room.clear()
