"""The hands of a drain: its free slots, what is claimed for them, and the handlers that run."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final

import structlog

from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Outcome
from shared.queues.ahead import HOLD_S, Ahead
from shared.queues.held import Held
from shared.queues.job_log import log_lost
from shared.queues.policies import POLICIES, Runtime
from shared.queues.registry import Work, Works
from shared.queues.runner import Ending, Execute, canceled, conclude, run_batch, run_one, stopped
from shared.queues.slots import Slots
from shared.queues.stops import Stop, Stops

_CANCEL_S: Final = 1.0
# Longer than a receiver near by takes; a 300th of what one that hangs may take.
LENDS_AFTER_S: Final = 0.1

log = structlog.get_logger(__name__)


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
        self._works = works
        self._use = use
        self._runtime = runtime
        self._execute = execute
        self._on_ended = on_ended
        self._on_free = on_free
        self._slots = {
            queue: Slots(count, lends_at_most=POLICIES[queue].lends_at_most) for queue, count in slots.items()
        }
        self._ahead = {queue: Ahead(slots=count) for queue, count in slots.items()}
        self._stops = Stops()
        self._limit_s = float("inf")
        self._unstarted: list[Job] = []
        self._room = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    @property
    def queues(self) -> list[QueueName]:
        """The queues that are worked, most urgent first."""
        return list(self._slots)

    @contextmanager
    def open(self, group: asyncio.TaskGroup, *, limit_s: float) -> Iterator[None]:
        """Run what is taken in this group, until the end of the block or `close`; no try for longer than `limit_s`."""
        self._group = group
        self._limit_s = limit_s
        self._look_for_room()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Start nothing more: what is claimed and not started is to be given back."""
        self._group = None
        for ahead in self._ahead.values():
            self._unstarted += ahead.take_all()

    def has_free(self, queue: QueueName) -> bool:
        """Whether a job of this queue would start at once."""
        return self._slots[queue].free > 0

    async def free_queues(self) -> list[QueueName]:
        """The queues with a free slot, most urgent first; waits until there is one."""
        await self._room.wait()
        return [queue for queue, slots in self._slots.items() if slots.free > 0]

    def wanted(self, queue: QueueName) -> int:
        """How many jobs of this queue to claim now."""
        return self._ahead[queue].wanted(self._slots[queue].free)

    def take(self, jobs: Sequence[Job], *, asked_at: float) -> None:
        """Start what was claimed, as far as there are slots; the rest waits for one, for HOLD_S at most."""
        self._held.take(jobs)
        now = time.monotonic()
        if jobs and now - asked_at + HOLD_S >= min(POLICIES[job.queue].lease_s(self._runtime) for job in jobs):
            log.warning("claim_came_too_late", jobs=len(jobs), seconds=round(now - asked_at, 1))
            self._unstarted += jobs
            return
        self._end_canceled([job for job in jobs if job.is_canceled])
        wanted = [job for job in jobs if not job.is_canceled]
        for queue, of_queue in groupby(wanted, key=lambda job: job.queue):
            self._ahead[queue].add(list(of_queue), now=now)
            self._start_next(queue)
        if self._group is None:
            self.close()
        elif any(self._ahead.values()):
            asyncio.get_running_loop().call_later(HOLD_S, self._let_go_of_stale)

    def lose(self, pks: set[int]) -> None:
        """Other workers have these claims by now: stop the handlers, and start none for what waits."""
        unstarted = [job for ahead in self._ahead.values() for job in ahead.drop(pks)]
        self._held.drop(unstarted)
        for job in unstarted + self._held.lose(pks):
            log_lost(job)

    def cancel(self, pks: set[int]) -> None:
        """Nobody wants these any more: stop their handlers, unless they run in a batch, and start none."""
        self._end_canceled([job for ahead in self._ahead.values() for job in ahead.drop(pks)])
        for task in self._held.running(pks):
            self._stops.stop(task, Stop.CANCELED)

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

    def _let_go_of_stale(self) -> None:
        for queue, ahead in self._ahead.items():
            if stale := ahead.take_stale(now=time.monotonic()):
                self._unstarted += stale
                self._start_next(queue)
                self._on_free(queue)

    def _start_next(self, queue: QueueName) -> None:
        """Start as many of the queue's claimed jobs as it has free slots."""
        free = self._slots[queue].free
        if self._group is None or free == 0 or not (jobs := self._ahead[queue].take(free, now=time.monotonic())):
            return
        work = self._works[queue]
        self._slots[queue].start(job.fence for job in jobs)
        self._look_for_room()
        is_batched = work.handle_batch is not None and self._execute is None
        alone = [job for job in jobs if not is_batched or job.name in work.alone]
        if len(alone) < len(jobs):
            batch = [job for job in jobs if job.name not in work.alone]
            task = self._group.create_task(self._run_batch(work, batch))
            self._held.started(batch, task)
            self._stops.watch(task, timeout_s=min(self._timeout_s(job) for job in batch))
        for job in alone:
            task = self._group.create_task(self._run_one(work, job))
            self._held.started([job], task)
            self._stops.watch(task, timeout_s=self._timeout_s(job))
            if POLICIES[queue].lends_at_most:
                asyncio.get_running_loop().call_later(LENDS_AFTER_S, self._lend, queue, job.fence)

    def _lend(self, queue: QueueName, fence: int) -> None:
        """A try that takes this long waits for others: let the next job start beside it."""
        if self._slots[queue].overdue(fence):
            self._start_next(queue)
            self._look_for_room()
            self._on_free(queue)

    def _timeout_s(self, job: Job) -> float:
        return min(POLICIES[job.queue].timeout_s if job.timeout_s is None else job.timeout_s, self._limit_s)

    def _end_canceled(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self._on_ended([conclude(self._works[job.queue], job, canceled()) for job in jobs])

    async def _run_one(self, work: Work, job: Job) -> None:
        began = time.perf_counter()
        structlog.contextvars.bind_contextvars(job_id=job.job_id, queue=job.queue.value)
        try:
            outcome, has_raised = await self._outcome(work, job)
            duration_s = time.perf_counter() - began
            self._ahead[work.queue].ran(duration_s)
            self._on_ended([conclude(work, job, outcome, has_raised=has_raised, duration_s=duration_s)])
        finally:
            self._free_slots(work.queue, [job])

    async def _outcome(self, work: Work, job: Job) -> tuple[Outcome, bool]:
        try:
            return await run_one(work, job, self._use, self._execute)
        except asyncio.CancelledError:
            if (why := self._stops.reason()) is None:
                raise
            return stopped(work, job, why, timeout_s=self._timeout_s(job))

    async def _run_batch(self, work: Work, jobs: list[Job]) -> None:
        began = time.perf_counter()
        structlog.contextvars.bind_contextvars(queue=work.queue.value)
        try:
            outcomes = await self._outcomes(work, jobs)
            duration_s = time.perf_counter() - began
            self._ahead[work.queue].ran(duration_s)
            self._on_ended(
                [
                    conclude(work, job, outcome, has_raised=has_raised, duration_s=duration_s)
                    for job, (outcome, has_raised) in zip(jobs, outcomes, strict=True)
                ]
            )
        finally:
            self._free_slots(work.queue, jobs)

    async def _outcomes(self, work: Work, jobs: Sequence[Job]) -> list[tuple[Outcome, bool]]:
        try:
            outcomes = await run_batch(work, jobs, self._use)
        except asyncio.CancelledError:
            if self._stops.reason() is None:
                raise
            outcomes = None
        return outcomes or await self._one_by_one(work, jobs)

    async def _one_by_one(self, work: Work, jobs: Sequence[Job]) -> list[tuple[Outcome, bool]]:
        """A batch that raised or took too long is run again job by job, each with its own time, to find the one."""
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        outcomes = []
        for job in jobs:
            self._stops.watch(task, timeout_s=self._timeout_s(job))
            outcomes.append(await self._outcome(work, job))
        return outcomes

    def _free_slots(self, queue: QueueName, jobs: Sequence[Job]) -> None:
        self._stops.forget(self._held.ended(jobs))
        self._slots[queue].end(job.fence for job in jobs)
        self._start_next(queue)
        self._room.set()
        self._on_free(queue)

    def _look_for_room(self) -> None:
        if any(slots.free > 0 for slots in self._slots.values()):
            self._room.set()
        else:
            self._room.clear()
