"""A process that may hold a socket does not outlive its lease: the kernel ends it, also one that was stopped.

Another host takes a session once its lease has lapsed. A process that was stopped (a frozen machine, SIGSTOP, a hung
loop) does not notice that, and the library's threads would log in again as soon as it goes on. So an alarm is set to
the end of the lease whenever a socket may be open; its default action ends the process before any thread runs on.
"""

import signal
import time
from collections.abc import Callable
from typing import Final

# 0 would switch the alarm off.
_AT_ONCE_S: Final = 0.001


def lease_clock() -> float:
    """Seconds that go on while the machine sleeps, where the kernel counts them (Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def kernel_alarm(seconds: float) -> None:
    """End this process after so many seconds by SIGALRM; 0: not at all. Main thread only."""
    if seconds:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Fence:
    """Knows until when the leases hold and who may have a socket open. `alarm` does nothing in tests in one process."""

    def __init__(
        self, *, clock: Callable[[], float] = lease_clock, alarm: Callable[[float], None] | None = None
    ) -> None:
        self._clock = clock
        self._alarm = alarm
        self._valid_until = 0.0
        self._open: set[object] = set()

    def holds(self) -> bool:
        """Whether the leases hold by this process's own clock."""
        return self._clock() < self._valid_until

    def now(self) -> float:
        """Its clock; read it before a renewal is asked for."""
        return self._clock()

    def renewed(self, until: float) -> None:
        """Postgres took a renewal or a first lease; they hold until then."""
        self._valid_until = max(self._valid_until, until)
        self._set()

    def opening(self, who: object) -> None:
        """From here on `who` may have a socket."""
        self._open.add(who)
        self._set()

    def closed(self, who: object) -> None:
        """It has none any more."""
        self._open.discard(who)
        self._set()

    def _set(self) -> None:
        if self._alarm is not None:
            self._alarm(max(self._valid_until - self._clock(), _AT_ONCE_S) if self._open else 0)
