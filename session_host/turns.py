"""How many sessions of a process begin at one time: each login, pairing and first history costs CPU and connections."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

# A login that hangs (a proxy that is gone) must not hold the others up.
_HELD_S: Final = 15.0


class Turns:
    """First come, first served. A turn that was asked for is told by `on_turn`, once."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._held: set[object] = set()
        self._waiting: OrderedDict[object, Callable[[], None]] = OrderedDict()

    @property
    def free(self) -> int:
        """Turns that nobody holds or waits for."""
        return max(self._at_once - len(self._held) - len(self._waiting), 0)

    def ask(self, who: object, on_turn: Callable[[], None]) -> bool:
        """Whether it may begin now; else `on_turn` is called when it may."""
        if who in self._held:
            return True
        if not self._waiting and len(self._held) < self._at_once:
            self._held.add(who)
            return True
        self._waiting.setdefault(who, on_turn)
        return False

    def take(self, who: object) -> None:
        """It has begun by itself (a code was scanned): it counts, also beyond the bound."""
        self._waiting.pop(who, None)
        self._held.add(who)

    def release(self, who: object) -> None:
        """It is through, or has given up; again is harmless."""
        self._waiting.pop(who, None)
        self._held.discard(who)
        while self._waiting and len(self._held) < self._at_once:
            following, on_turn = self._waiting.popitem(last=False)
            self._held.add(following)
            on_turn()


class Turn:
    """One session's turn: given back when it is through, after 15 s at the latest. `on_turn` as `Turns.ask` says."""

    def __init__(self, turns: Turns, on_turn: Callable[[], None]) -> None:
        self._turns = turns
        self._on_turn = on_turn
        self._end: asyncio.TimerHandle | None = None

    def ask(self) -> bool:
        """Whether the session may begin now; else it is told when it may."""
        if self._turns.ask(self, self._came):
            self._keep(_HELD_S)
            return True
        return False

    def take(self) -> None:
        """The session has begun by itself."""
        self._turns.take(self)
        self._keep(_HELD_S)

    def release(self, *, after_s: float = 0) -> None:
        """Now, or in so many seconds; again is harmless."""
        if after_s:
            self._keep(after_s)
            return
        if self._end is not None:
            self._end.cancel()
        self._turns.release(self)

    def _came(self) -> None:
        self._keep(_HELD_S)
        self._on_turn()

    def _keep(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_later(seconds, self._turns.release, self)
