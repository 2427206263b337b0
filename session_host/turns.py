"""How many sessions of a process begin at one time: each login, pairing and first history costs CPU and connections."""

from collections import OrderedDict
from collections.abc import Callable


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
