"""Keeps calls into the Go library apart that would kill the process when they meet.

The library keeps its clients in a plain Go map: a call that looks one up while a connect or stop writes the map is a
"concurrent map read and map write", which aborts the process. A lookup is the first thing that a call does, so only
its beginning must be kept apart, not the 75 s that a send may take.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

T = TypeVar("T")

# By then a call's thread runs and its lookup, a matter of microseconds, is done, however busy the machine is.
_LOOKUP_S: Final = 0.25


class Gate:
    """Any number of calls, or one connect or stop, at a time; a writer that waits goes first."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._writers = 0  # running and waiting
        self._is_written = False
        self._reading = 0

    async def call(self, call: Awaitable[T]) -> T:
        """Run a call into the library; cancelling it does not cancel the library's side."""
        await self._until(lambda: not self._writers)
        self._reading += 1
        try:
            running = asyncio.ensure_future(call)
            await asyncio.wait({running}, timeout=_LOOKUP_S)
        finally:
            self._end_lookup()
        return await running

    async def admit(self) -> None:
        """Return when a thread of the library may look its client up; it has `_LOOKUP_S` for that, undisturbed."""
        await self._until(lambda: not self._writers)
        self._reading += 1
        asyncio.get_running_loop().call_later(_LOOKUP_S, self._end_lookup)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hold every other call back, as the block adds a client or removes one."""
        self._writers += 1
        try:
            await self._until(lambda: not self._reading and not self._is_written)
            self._is_written = True
            try:
                yield
            finally:
                self._is_written = False
        finally:
            self._writers -= 1
            self._tell()

    def _end_lookup(self) -> None:
        self._reading -= 1
        self._tell()

    async def _until(self, may_go: Callable[[], bool]) -> None:
        while not may_go():
            await self._changed.wait()

    def _tell(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()
