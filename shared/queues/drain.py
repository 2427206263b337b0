"""The drain: claims jobs into free slots, runs handlers, finishes in batches; one loop for worker and Lambda.

A queue is *hungry* while it may have claimable work: it was rung, or its last claim filled every slot asked for. A
claim asks for hungry queues only, so an idle drain asks nothing, and one ring sets it going until nothing is left.
Claims and finishes run at once, each on a connection of its own.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, Protocol

import structlog

from shared.db.pool import AWAY, COLLISION
from shared.domain.jobs import Job, QueueName
from shared.queues import ledger
from shared.queues.finishing import finish_all, finish_each
from shared.queues.held import Held
from shared.queues.job_log import log_ended, log_lost
from shared.queues.lane import Lane
from shared.queues.outage import Outage
from shared.queues.policies import Runtime
from shared.queues.registry import Work, Works
from shared.queues.runner import Ending, Execute, conclude, run_batch, run_one
from shared.queues.runtime import Queues

_FINISH_AT_MOST: Final = 500
# A drain with its hands full tells others so this often: they may be idle.
_PASS_ON_EVERY_S: Final = 0.05
# Of a claim's answer that Postgres is away, so many in a row make us look at the batch itself.
_DOUBTS: Final = 3
_CANCEL_S: Final = 1.0

log = structlog.get_logger(__name__)


class Timekeeper(Protocol):
    """Whoever rings this drain when something falls due: a worker's sweeper."""

    def soon(self) -> None: ...
    def due_in(self, seconds: float) -> None: ...


class Drain:
    """One process's drain of the queues in `slots`, which says how many jobs of each run at once."""

    def __init__(
        self,
        queues: Queues,
        works: Works,
        use: Any,  # noqa: ANN401 - functions.resources.Resources, which this package does not know
        *,
        slots: Mapping[QueueName, int],
        worker: str,
        runtime: Runtime = Runtime.WORKER,
        execute: Execute | None = None,
        outage: Outage | None = None,
    ) -> None:
        self.held = Held()
        self._queues = queues
        self._works = works
        self._use = use
        self._worker = worker
        self._runtime = runtime
        self._execute = execute
        self._outage = outage or Outage("postgres")
        self._free = dict(slots)
        self._hungry = set(slots)
        self._ended: list[Ending] = []
        self._unfinished: list[Job] = []
        self._look = asyncio.Event()
        self._flush = asyncio.Event()
        self._room = asyncio.Event()
        self._is_closing = False
        self._is_flushing_last = False
        self._passed_on_at = dict.fromkeys(slots, 0.0)
        self._timekeeper: Timekeeper | None = None

    async def run(self, *, timekeeper: Timekeeper, grace_s: float) -> None:
        """Work until `close`; then what runs has `grace_s` to end, and what has not by then is given back."""
        self._timekeeper = timekeeper
        await self._work(until_idle=False, grace_s=grace_s)

    async def until_idle(self, *, deadline_s: float = float("inf")) -> float | None:
        """Work until nothing is claimable or `deadline_s` is near, and see that the queues are rung for what is left.

        Returns the seconds until something falls due, 0 when there is work left, None when nothing is to come. In the
        last third of `deadline_s`, 10 s of it at most, nothing new is claimed.
        """
        self._is_closing = False
        last_claim_s = deadline_s - min(deadline_s / 3, 10.0)
        timer = None
        if last_claim_s < float("inf"):
            timer = asyncio.get_running_loop().call_later(last_claim_s, self.close)
        try:
            return await self._work(until_idle=True, grace_s=deadline_s - last_claim_s if timer else 0.0)
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Claim nothing more."""
        self._is_closing = True
        self._look.set()

    def ring(self, queues: set[QueueName]) -> set[QueueName]:
        """Look at these queues, and return those for which a slot is free: nobody else needs to be rung for them."""
        mine = queues & self._free.keys()
        self._hungry |= mine
        if mine:
            self._look.set()
        return set() if self._is_closing else {queue for queue in mine if self._free[queue] > 0}

    async def hungry_for(self) -> list[QueueName]:
        """The queues with a free slot, most urgent first; waits until there is one."""
        await self._room.wait()
        return [queue for queue, free in self._free.items() if free > 0]

    def lose(self, pks: set[int]) -> None:
        """Other workers have these claims by now: stop the handlers."""
        for job in self.held.lose(pks):
            log_lost(job)

    async def _work(self, *, until_idle: bool, grace_s: float) -> float | None:
        self._is_flushing_last = False
        self._look_for_room()
        claims, finishes = Lane(self._queues.pool), Lane(self._queues.pool)
        detach = self._queues.attach(self.ring)
        try:
            async with asyncio.TaskGroup() as group:
                finisher = group.create_task(self._finish_until_flushed(finishes))
                due_s = await self._claim(claims, group, until_idle=until_idle)
                detach()
                await self._wind_down(claims, grace_s)
                self._is_flushing_last = True
                self._flush.set()
                await finisher
        finally:
            detach()
            await claims.close()
            await finishes.close()
        return due_s

    # ---- claiming

    async def _claim(self, lane: Lane, group: asyncio.TaskGroup, *, until_idle: bool) -> float | None:
        while not self._is_closing:
            self._look.clear()
            asked = {queue: self._free[queue] for queue in self._hungry if self._free[queue] > 0}
            if asked:
                await self._claim_into(asked, lane, group)
            elif until_idle and not self._hungry and not self._ended and not self.held.count():
                due_s = await ledger.next_due_s(await lane.open(), list(self._free))
                if due_s != 0 or self._is_closing:
                    return due_s
                self._hungry |= self._free.keys()
                await asyncio.sleep(_PASS_ON_EVERY_S)  # another's claim holds what is ready: it is not ours to spin on
            else:
                if not self._hungry and self._timekeeper is not None:
                    self._timekeeper.soon()
                await self._look.wait()
                # Slots that get free in this turn of the loop are claimed for together.
                await asyncio.sleep(0)
        return 0.0

    async def _claim_into(self, asked: dict[QueueName, int], lane: Lane, group: asyncio.TaskGroup) -> None:
        self._hungry -= asked.keys()
        try:
            jobs = await ledger.claim(await lane.open(), slots=asked, worker=self._worker, runtime=self._runtime)
        except (*AWAY, *COLLISION) as error:
            self._hungry |= asked.keys()
            await lane.drop()
            await asyncio.sleep(self._outage.began(error))
            return
        self._outage.ended()
        for queue, batch in groupby(jobs, key=lambda job: job.queue):
            self._start(self._works[queue], list(batch), group)
        got = dict.fromkeys(asked, 0)
        for job in jobs:
            got[job.queue] += 1
        if full := {queue for queue, count in got.items() if count >= asked[queue]}:
            self._hungry |= full
            await self._pass_on(full)

    async def _pass_on(self, queues: set[QueueName]) -> None:
        now = time.monotonic()
        tell = {queue for queue in queues if now - self._passed_on_at[queue] >= _PASS_ON_EVERY_S}
        self._passed_on_at.update(dict.fromkeys(tell, now))
        await self._queues.ring_others(tell)

    # ---- running

    def _start(self, work: Work, jobs: list[Job], group: asyncio.TaskGroup) -> None:
        for job in jobs:
            self.held.take(job)
        if self._is_closing:
            self._unfinished += jobs
            return
        self._free[work.queue] -= len(jobs)
        self._look_for_room()
        if work.handle_batch is not None and self._execute is None:
            self.held.started([job.pk for job in jobs], group.create_task(self._run_batch(work, jobs)))
            return
        for job in jobs:
            self.held.started([job.pk], group.create_task(self._run_one(work, job)))

    async def _run_one(self, work: Work, job: Job) -> None:
        began = time.perf_counter()
        structlog.contextvars.bind_contextvars(job_id=job.job_id, queue=job.queue.value)
        try:
            outcome, has_raised = await run_one(work, job, self._use, self._execute)
            self._ended.append(
                conclude(work, job, outcome, has_raised=has_raised, duration_s=time.perf_counter() - began)
            )
        finally:
            self._free_slots(work, [job])

    async def _run_batch(self, work: Work, jobs: list[Job]) -> None:
        began = time.perf_counter()
        structlog.contextvars.bind_contextvars(queue=work.queue.value)
        try:
            outcomes = await run_batch(work, jobs, self._use)
            duration_s = time.perf_counter() - began
            self._ended += [
                conclude(work, job, outcome, has_raised=has_raised, duration_s=duration_s)
                for job, (outcome, has_raised) in zip(jobs, outcomes, strict=True)
            ]
        finally:
            self._free_slots(work, jobs)

    def _free_slots(self, work: Work, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.held.ended(job.pk)
        self._free[work.queue] += len(jobs)
        self._room.set()
        self._flush.set()
        self._look.set()

    def _look_for_room(self) -> None:
        if any(free > 0 for free in self._free.values()):
            self._room.set()
        else:
            self._room.clear()

    # ---- finishing

    async def _finish_until_flushed(self, lane: Lane) -> None:
        doubts = 0
        while True:
            self._flush.clear()
            if not self._ended:
                if self._is_flushing_last:
                    return
                await self._flush.wait()
                continue
            batch = self._ended[:_FINISH_AT_MOST]
            try:
                connection = await lane.open()
                if doubts < _DOUBTS:
                    finished = await finish_all(self._queues, connection, self._works, batch)
                else:
                    finished = await finish_each(self._queues, connection, self._works, batch, doubt_away=True)
            except (*AWAY, *COLLISION) as error:
                await lane.drop()
                await asyncio.sleep(self._outage.began(error))
                # Postgres answers others, so it is this batch that breaks the connection or runs into its timeout.
                doubts = doubts + 1 if await self._answers(lane) else 0
                continue
            self._outage.ended()
            doubts = 0
            del self._ended[: len(batch)]
            await self._settle(batch, finished)

    async def _settle(self, batch: Sequence[Ending], finished: ledger.Finished) -> None:
        for end in batch:
            self.held.drop(end.job.pk)
            log_ended(end, was_accepted=end.job.pk in finished.accepted, is_dead=end.job.pk in finished.dead)
        if self._timekeeper is not None and finished.next_due_s is not None:
            self._timekeeper.due_in(finished.next_due_s)
        if not self._hungry:
            self._look.set()  # an idle drain that waits for the last finish
        if finished.ready:
            await self._queues.ring(finished.ready)

    async def _answers(self, lane: Lane) -> bool:
        try:
            await (await lane.open()).execute("SELECT 1")
        except AWAY:
            return False
        return True

    # ---- ending

    async def _wind_down(self, lane: Lane, grace_s: float) -> None:
        running = self.held.tasks()
        if running:
            await asyncio.wait(running, timeout=grace_s)
        if left := [task for task in running if not task.done()]:
            log.warning("jobs_cut_off", jobs=len(left), grace_s=grace_s)
            self._unfinished += self.held.cancel()
            await asyncio.wait(left, timeout=_CANCEL_S)
        give_back = {job.pk: job.fence for job in self._unfinished}
        self._unfinished = []
        # A lease that cannot be given back lapses by itself.
        with suppress(*AWAY, *COLLISION):
            ready = await ledger.release(await lane.open(), give_back) if give_back else set()
            await self._queues.ring_others(ready)
        for pk in give_back:
            self.held.drop(pk)
