"""Waiting for the database to say something new: bounded, ended early when the process stops, holding no connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from api.resources import Resources

T = TypeVar("T")

# 50 ms after the first look, then 100, 200, and every 400 ms: fast when it is nearly there, cheap when it is not.
_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 0.4


async def poll(parts: Resources, look: Callable[[], Awaitable[T | None]], *, wait_s: float) -> T | None:
    """What `look` finds first, or None when it found nothing for `wait_s` seconds; it looks at least once.

    Polls rather than listens: behind a transaction pooler there is no LISTEN.
    """
    clock = asyncio.get_running_loop().time
    ends_at, pause_s = clock() + wait_s, _FIRST_PAUSE_S
    while True:
        found = await look()
        left_s = ends_at - clock()
        if found is not None or left_s <= 0 or parts.stopping.is_set():
            return found
        try:
            async with asyncio.timeout(min(pause_s, left_s)):
                await parts.stopping.wait()
        except TimeoutError:
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)
