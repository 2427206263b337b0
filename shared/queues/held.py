"""The jobs this process holds: what the heartbeat renews, and whom to stop when a claim is lost."""

import asyncio
import threading
from collections.abc import Iterable, Sequence

from shared.domain.jobs import Job, QueueName


class Held:
    """From the claim to the finish's commit. The drain's loop changes it, the heartbeat's thread reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._running: dict[int, asyncio.Task[None]] = {}

    def take(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self._jobs.update((job.pk, job) for job in jobs)

    def drop(self, pks: Iterable[int]) -> None:
        with self._lock:
            for pk in pks:
                self._jobs.pop(pk, None)

    def count(self) -> int:
        return len(self._jobs)

    def claims(self) -> tuple[dict[int, int], dict[int, QueueName]]:
        """The fence and the queue of each pk, of one moment; safe from any thread."""
        with self._lock:
            jobs = list(self._jobs.values())
        return {job.pk: job.fence for job in jobs}, {job.pk: job.queue for job in jobs}

    def started(self, jobs: Sequence[Job], task: asyncio.Task[None]) -> None:
        for job in jobs:
            self._running[job.pk] = task

    def ended(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._running.pop(job.pk, None)

    def tasks(self) -> list[asyncio.Task[None]]:
        return list(set(self._running.values()))

    def lose(self, pks: set[int]) -> list[Job]:
        """Stop the handlers of lost claims and return their jobs; a batch goes on, as it holds others' claims too."""
        lost = []
        tasks = list(self._running.values())
        for pk in pks & self._running.keys():
            if tasks.count(self._running[pk]) == 1:
                self._running[pk].cancel()
                lost.append(self._jobs[pk])
        self.drop(job.pk for job in lost)
        return lost

    def cancel(self) -> list[Job]:
        """Stop every handler that still runs and return their jobs."""
        for task in self.tasks():
            task.cancel()
        return [self._jobs[pk] for pk in self._running if pk in self._jobs]
