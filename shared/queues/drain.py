"""The drain: claims jobs into free slots, runs handlers, finishes in batches; one loop for worker and Lambda.

A queue is *hungry* while it may have claimable work: it was rung, or its last claim filled every slot asked for. A
claim asks for hungry queues only, so an idle drain asks nothing, and one ring sets it going until nothing is left.
Claims and finishes run at once, each on a connection of its own; quick handlers are claimed for ahead (ahead.py).
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from shared.db.pool import AWAY, COLLISION
from shared.db.sql import load
from shared.domain.jobs import QueueName
from shared.queues import ledger
from shared.queues.finisher import Finisher
from shared.queues.hands import Hands
from shared.queues.held import Held
from shared.queues.lane import Lane
from shared.queues.outage import Outage
from shared.queues.policies import POLICIES, Runtime
from shared.queues.registry import Works
from shared.queues.runner import Execute
from shared.queues.runtime import Queues, retry_collisions

# A drain with its hands full tells others so this often: they may be idle.
_PASS_ON_EVERY_S: Final = 0.05
_PROMOTED_AT_MOST: Final = 500

_sql: Final = load("drain")


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
        self._queues = queues
        self._worker = worker
        self._runtime = runtime
        self._outage = outage or Outage("postgres")
        self.held = Held()
        self._finisher = Finisher(queues, works, self.held, outage=self._outage, on_finished=self._on_finished)
        self._hands = Hands(
            works,
            use,
            held=self.held,
            slots=slots,
            runtime=runtime,
            execute=execute,
            on_ended=self._finisher.add,
            on_free=self._on_free,
        )
        self._hungry = set(slots)
        self._look = asyncio.Event()
        self._is_closing = False
        self._passed_on_at = dict.fromkeys(slots, 0.0)
        self._timekeeper: Timekeeper | None = None

    async def run(self, *, timekeeper: Timekeeper, grace_s: float) -> None:
        """Work until `close`; then what runs has `grace_s` to end, and what has not by then is given back."""
        self._timekeeper = timekeeper
        await self._work(until_idle=False, grace_s=grace_s)

    async def until_idle(self, *, deadline_s: float = float("inf")) -> float | None:
        """Work until nothing is claimable or `deadline_s` is near, and see that the queues are rung for what is left.

        Returns the seconds until something falls due, 0 when there is work left, None when nothing is to come. In the
        last third of `deadline_s`, 10 s of it at most, nothing new is claimed. A try that takes longer than what is
        before that is too long for this drain and is stopped as one that timed out.
        """
        self._is_closing = False
        last_claim_s = deadline_s - min(deadline_s / 3, 10.0)
        timer = None
        if last_claim_s < float("inf"):
            timer = asyncio.get_running_loop().call_later(last_claim_s, self.close)
        try:
            return await self._work(
                until_idle=True, grace_s=deadline_s - last_claim_s if timer else 0.0, limit_s=last_claim_s
            )
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Claim and start nothing more."""
        self._is_closing = True
        self._hands.close()
        self._look.set()

    def ring(self, queues: set[QueueName]) -> set[QueueName]:
        """Look at these queues, and return those for which a slot is free: nobody else needs to be rung for them."""
        mine = queues.intersection(self._hands.queues)
        self._hungry |= mine
        if mine:
            self._look.set()
        return set() if self._is_closing else {queue for queue in mine if self._hands.has_free(queue)}

    @property
    def queues(self) -> list[QueueName]:
        """The queues that are worked, most urgent first."""
        return self._hands.queues

    async def hungry_for(self) -> list[QueueName]:
        """The queues with a free slot, most urgent first; waits until there is one."""
        return await self._hands.free_queues()

    def lose(self, pks: set[int]) -> None:
        """Other workers have these claims by now: stop the handlers, and start none for what waits."""
        self._hands.lose(pks)

    def cancel(self, pks: set[int]) -> None:
        """Nobody wants these jobs any more: stop the handlers, and start none for what waits."""
        self._hands.cancel(pks)

    async def _work(self, *, until_idle: bool, grace_s: float, limit_s: float = float("inf")) -> float | None:
        claims, finishes = Lane(self._queues.pool), Lane(self._queues.pool)
        detach = self._queues.attach(self.ring)
        try:
            async with asyncio.TaskGroup() as group:
                finisher = group.create_task(self._finisher.run(finishes))
                with self._hands.open(group, limit_s=limit_s):
                    due_s = await self._claim(claims, until_idle=until_idle)
                detach()
                await self._wind_down(claims, group, grace_s)
                self._finisher.end()
                await finisher
        finally:
            detach()
            await claims.close()
            await finishes.close()
        return due_s

    # ---- claiming

    async def _claim(self, lane: Lane, *, until_idle: bool) -> float | None:
        while not self._is_closing:
            self._look.clear()
            if self._hands.has_to_give_back():
                given_back = await self._give_back(lane)
                self._hungry |= given_back.intersection(self._hands.queues)
            asked = {queue: count for queue in self._hungry if (count := self._hands.wanted(queue)) > 0}
            if asked:
                await self._claim_into(asked, lane)
            elif until_idle and not self._hungry and self._finisher.is_idle() and not self.held.count():
                due_s = await ledger.next_due_s(await lane.open(), self._hands.queues)
                if due_s != 0 or self._is_closing:
                    return due_s
                self._hungry.update(self._hands.queues)
                if not await retry_collisions(lambda: self._promote(lane)):
                    await asyncio.sleep(_PASS_ON_EVERY_S)  # another's claim holds what is ready: not ours to spin on
            else:
                if not self._hungry and self._timekeeper is not None:
                    self._timekeeper.soon()
                await self._look.wait()
                # Slots that get free in this turn of the loop are claimed for together.
                await asyncio.sleep(0)
        return 0.0

    async def _promote(self, lane: Lane) -> int:
        """Make claimable what fell due, and return how much: where no sweeper runs beside this, nobody else does."""
        connection = await lane.open()
        async with connection.transaction():
            queues = [POLICIES[queue].id for queue in self._hands.queues]
            due = await connection.fetch(_sql.due, queues, _PROMOTED_AT_MOST)
            return await ledger.make_due(connection, [row["pk"] for row in due])

    async def _claim_into(self, asked: dict[QueueName, int], lane: Lane) -> None:
        self._hungry -= asked.keys()
        asked_at = time.monotonic()
        try:
            jobs = await ledger.claim(await lane.open(), slots=asked, worker=self._worker, runtime=self._runtime)
        except (*AWAY, *COLLISION) as error:
            self._hungry |= asked.keys()
            await lane.drop()
            await asyncio.sleep(self._outage.began(error))
            return
        self._outage.ended()
        self._hands.take(jobs, asked_at=asked_at)
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

    def _on_free(self, queue: QueueName) -> None:
        if queue in self._hungry or self._hands.has_to_give_back():
            self._look.set()

    def _on_finished(self, finished: ledger.Finished) -> None:
        if self._timekeeper is not None and finished.next_due_s is not None:
            self._timekeeper.due_in(finished.next_due_s)
        if not self._hungry:
            self._look.set()  # an idle drain that waits for the last finish

    # ---- ending

    async def _wind_down(self, lane: Lane, group: asyncio.TaskGroup, grace_s: float) -> None:
        # Others may have what was not started at once, while we wait for what runs.
        giving_back = group.create_task(self._give_back_and_ring(lane))
        await self._hands.rest(grace_s)
        await giving_back
        await self._give_back_and_ring(lane)

    async def _give_back_and_ring(self, lane: Lane) -> None:
        await self._queues.ring_others(await self._give_back(lane))

    async def _give_back(self, lane: Lane) -> set[QueueName]:
        """Release what will not be started or was cut off, and return the queues where that is claimable."""
        jobs = self._hands.to_give_back()
        ready: set[QueueName] = set()
        # A lease that cannot be given back lapses by itself.
        with suppress(*AWAY, *COLLISION):
            if jobs:
                ready = await ledger.release(await lane.open(), {job.pk: job.fence for job in jobs})
        self.held.drop(jobs)
        return ready
