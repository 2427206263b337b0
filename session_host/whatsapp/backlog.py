"""Tells what WhatsApp kept while the device was away from what happens now."""

from collections.abc import Callable
from typing import Final

# WhatsApp says when it has handed over what it kept. Should it ever not say so, a message that was written so long
# after the login, by clocks that may differ a little, is the first of the new ones.
_SLACK_MS: Final = 30_000


class Backlog:
    """Of one client. It is open from a client's start and from each loss of the connection, until WhatsApp ends it."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._is_open = True
        self._login_ms: int | None = None

    def begin(self) -> None:
        """The connection is gone, or may be: what is written from now on waits for the next one."""
        self._is_open = True
        self._login_ms = None

    def log_in(self) -> None:
        """A connection is up. What was kept may come before or after this is known."""
        self._login_ms = self._now_ms()

    def end(self) -> None:
        """All that was kept has come."""
        self._is_open = False

    def holds(self, timestamp_ms: int) -> bool:
        """Whether a message that comes in now, written at that time, was kept while the device was away."""
        if self._is_open and self._login_ms is not None and timestamp_ms > self._login_ms + _SLACK_MS:
            self._is_open = False
        return self._is_open
