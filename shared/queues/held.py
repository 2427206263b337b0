"""The jobs this process holds: what the heartbeat renews, and whom to stop when a claim is lost."""

import asyncio
import threading
from collections.abc import Iterable, Sequence

from shared.domain.jobs import Job, QueueName
from shared.queues.running import Report, reports_of


class Held:
    """From the claim to the finish's commit. The drain's loop changes it, the heartbeat's thread reads it.

    By fence: a process may claim a job again before it has noticed that its first claim was lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._running: dict[int, asyncio.Task[None]] = {}

    def take(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self._jobs.update((job.fence, job) for job in jobs)

    def drop(self, jobs: Iterable[Job]) -> None:
        with self._lock:
            for job in jobs:
                self._jobs.pop(job.fence, None)

    def count(self) -> int:
        return len(self._jobs)

    def claims(self) -> tuple[dict[int, int], dict[int, QueueName]]:
        """The newest fence and the queue of each pk, of one moment; safe from any thread."""
        with self._lock:
            jobs = list(self._jobs.values())
        return {job.pk: job.fence for job in jobs}, {job.pk: job.queue for job in jobs}

    def reports(self) -> list[Report]:
        """What the jobs said of their progress since the last call; safe from any thread."""
        with self._lock:
            jobs = list(self._jobs.values())
        return reports_of(jobs)

    def running(self, pks: set[int]) -> list[asyncio.Task[None]]:
        """The tasks that run one of these jobs and no other; a batch is none."""
        tasks = list(self._running.values())
        return [
            task
            for fence, task in self._running.items()
            if fence in self._jobs and self._jobs[fence].pk in pks and tasks.count(task) == 1
        ]

    def started(self, jobs: Sequence[Job], task: asyncio.Task[None]) -> None:
        for job in jobs:
            self._running[job.fence] = task

    def ended(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            del self._running[job.fence]

    def tasks(self) -> list[asyncio.Task[None]]:
        return list(set(self._running.values()))

    def lose(self, pks: set[int]) -> list[Job]:
        """Stop the handlers of lost claims and return their jobs; a batch goes on, as it holds others' claims too."""
        lost = []
        tasks = list(self._running.values())
        for fence, task in self._running.items():
            job = self._jobs.get(fence)
            if job is not None and job.pk in pks and tasks.count(task) == 1:
                task.cancel()
                lost.append(job)
        self.drop(lost)
        return lost

    def cancel(self) -> list[Job]:
        """Stop every handler that still runs and return their jobs."""
        for task in self.tasks():
            task.cancel()
        return [self._jobs[fence] for fence in self._running if fence in self._jobs]
