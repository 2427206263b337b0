"""The tries of jobs: the handler of one, or of a batch, run to what it came to, also when it raised or was stopped."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from structlog.contextvars import bind_contextvars

from shared.domain.jobs import Job
from shared.domain.outcome import Outcome
from shared.queues.policies import POLICIES
from shared.queues.registry import Work
from shared.queues.runner import Ending, Execute, conclude, run_batch, run_one, stopped
from shared.queues.stops import Stops


class Tries:
    """One drain's. `stops` watches the tasks that run them; no try gets longer than `limit_s`."""

    def __init__(self, use: Any, execute: Execute | None) -> None:  # noqa: ANN401 - functions.resources.Resources
        self._use = use
        self._execute = execute
        self.stops = Stops()
        self.limit_s = float("inf")

    def timeout_s(self, job: Job) -> float:
        """How long a try of this job may take."""
        return min(POLICIES[job.queue].timeout_s if job.timeout_s is None else job.timeout_s, self.limit_s)

    async def run(self, work: Work, jobs: Sequence[Job]) -> list[Ending]:
        """Run these jobs of one queue in the current task: one by itself, more than one as a batch.

        Raises CancelledError when the task was cancelled and not by `stops`.
        """
        began = time.perf_counter()
        if len(jobs) == 1:
            [job] = jobs
            bind_contextvars(job_id=job.job_id, queue=job.queue.value)
            outcome, has_raised = await self._outcome(work, job)
            return [
                conclude(work, job, outcome, has_raised=has_raised, duration_s=time.perf_counter() - began),
            ]
        bind_contextvars(queue=work.queue.value)
        outcomes = await self._outcomes(work, jobs)
        duration_s = time.perf_counter() - began
        return [
            conclude(work, job, outcome, has_raised=has_raised, duration_s=duration_s)
            for job, (outcome, has_raised) in zip(jobs, outcomes, strict=True)
        ]

    async def _outcome(self, work: Work, job: Job) -> tuple[Outcome, bool]:
        try:
            return await run_one(work, job, self._use, self._execute)
        except asyncio.CancelledError:
            if (why := self.stops.reason()) is None:
                raise
            return stopped(work, job, why, timeout_s=self.timeout_s(job))

    async def _outcomes(self, work: Work, jobs: Sequence[Job]) -> list[tuple[Outcome, bool]]:
        try:
            outcomes = await run_batch(work, jobs, self._use)
        except asyncio.CancelledError:
            if self.stops.reason() is None:
                raise
            outcomes = None
        return outcomes or await self._one_by_one(work, jobs)

    async def _one_by_one(self, work: Work, jobs: Sequence[Job]) -> list[tuple[Outcome, bool]]:
        """A batch that raised or took too long is run again job by job, each with its own time, to find the one."""
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        outcomes = []
        for job in jobs:
            self.stops.watch(task, timeout_s=self.timeout_s(job))
            outcomes.append(await self._outcome(work, job))
        return outcomes
