"""Stops: why a handler is stopped before it ends. Its time is over, or nobody wants its job any more."""

import asyncio
import time
from enum import StrEnum


class Stop(StrEnum):
    """Why."""

    TIMEOUT = "timeout"
    CANCELED = "canceled"


class Stops:
    """Watches one drain's handlers with one timer, so that a quick job pays next to nothing for its time limit."""

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Task[None], float] = {}
        self._reasons: dict[asyncio.Task[None], Stop] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def watch(self, task: asyncio.Task[None], *, timeout_s: float) -> None:
        """Stop the task when it takes longer; again is a new limit."""
        at = time.monotonic() + timeout_s
        self._deadlines[task] = at
        if at < self._timer_at:
            self._look_at(at)

    def forget(self, task: asyncio.Task[None]) -> None:
        """It ended, whether or not it was watched."""
        self._deadlines.pop(task, None)
        self._reasons.pop(task, None)

    def stop(self, task: asyncio.Task[None], why: Stop) -> None:
        """Cancel the task, once: what it does to end cleanly is not interrupted."""
        if task in self._deadlines and task not in self._reasons:
            self._reasons[task] = why
            self._deadlines[task] = float("inf")
            task.cancel()

    def reason(self) -> Stop | None:
        """Why the current task was cancelled, which then goes on; None: it was not stopped by us and must end."""
        task = asyncio.current_task()
        assert task is not None
        why = self._reasons.pop(task, None)
        if why is not None:
            task.uncancel()
        return why

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = time.monotonic()
        for task in [task for task, at in self._deadlines.items() if at <= now]:
            self.stop(task, Stop.TIMEOUT)
        if (first := min(self._deadlines.values(), default=float("inf"))) < float("inf"):
            self._look_at(first)
