"""What a loop does while a part is away: say so once, wait a little longer each time, say once that it is back."""

import asyncio
from typing import Final

import structlog

_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 2.0

log = structlog.get_logger(__name__)


class Outage:
    """The state of one part as one loop sees it; `part` names it in the log."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._delay_s = 0.0

    @property
    def is_on(self) -> bool:
        return self._delay_s > 0

    def began(self, error: BaseException) -> float:
        """Note a failure and return how long to wait before the next try: 0.1, 0.2, 0.4 s, … then every 2 s.

        Raises CancelledError when the loop was told to end: a client library may make an error of its own out of a
        cancellation, which comes only once.
        """
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError from error
        if not self.is_on:
            log.warning("part_went_away", part=self._part, error=type(error).__name__)
        self._delay_s = min(max(self._delay_s * 2, _FIRST_DELAY_S), _LAST_DELAY_S)
        return self._delay_s

    def ended(self) -> None:
        """Note a success. Cheap: call it after every one."""
        if self.is_on:
            log.info("part_came_back", part=self._part)
            self._delay_s = 0.0
