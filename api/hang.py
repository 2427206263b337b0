"""A Postgres that hangs: a few requests wait for it in vain, the others hear at once that it does not answer.

A server that is gone refuses by itself, at once. One that hangs takes five seconds of every request that asks it. So
after one that waited in vain, while nothing else was answered meanwhile, only one request at a time finds out whether
it is back. Under mere overload others are answered meanwhile, and nothing changes.
"""

import time
from collections.abc import Callable


class Hang:
    """One per process. Belongs to one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.is_on = False
        self._is_asking = False
        self._answered_at = float("-inf")

    def lets_in(self) -> bool:
        """Whether a request may ask Postgres. While it hangs one may at a time; tell its end by `ended`."""
        if not self.is_on:
            return True
        if self._is_asking:
            return False
        self._is_asking = True
        return True

    def ended(self, *, began_at: float, was_asking: bool, is_answered: bool, is_in_vain: bool) -> None:
        """A request that was let in is over: Postgres answered it, or let it wait in vain, or was not asked.

        `was_asking`: it was let in while Postgres hung.
        """
        if was_asking:
            self._is_asking = False
        if is_answered:
            self._answered_at = self.clock()
            self.is_on = False
        elif is_in_vain and self._answered_at < began_at:
            self.is_on = True
