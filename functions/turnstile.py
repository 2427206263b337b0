"""Lets a few in at once; whoever finds it full is told when to come again, so that nobody waits in a worker's slot."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# Nobody comes back sooner: a look costs a claim.
_LEAST_S: Final = 1.0
_FIRST_GUESS_S: Final = 1.0
# How much the newest stay counts for what the next will be.
_NEWEST: Final = 0.2


class Turnstile:
    """Belongs to one event loop. `at_once` are let in; the others come in the order in which they asked, about."""

    def __init__(self, at_once: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._clock = clock
        self._inside = 0
        self._usual_s = _FIRST_GUESS_S
        self._last_told = 0.0

    def wait_s(self) -> float | None:
        """None: there is room. Otherwise the seconds after which there should be, for this one who asks."""
        if self._inside < self._at_once:
            return None
        now = self._clock()
        # Each is told a time of its own, as far apart as places become free.
        self._last_told = max(self._last_told, now) + self._usual_s / self._at_once
        return max(self._last_told - now, _LEAST_S)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Take a place until the end of the block; only after `wait_s` said None."""
        began = self._clock()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._usual_s += (self._clock() - began - self._usual_s) * _NEWEST
