"""One queue's slots in one process: how many jobs run at once, and which of them no longer count."""

from collections.abc import Iterable


class Slots:
    """`count` jobs at once. Beside them run those that only wait for somebody else, `lends_at_most` of them.

    A handler that waits for a slow receiver costs nothing but its place. Once it is said to be `overdue` it lends its
    slot to the next job and keeps running; its end frees no slot then.
    """

    def __init__(self, count: int, *, lends_at_most: int) -> None:
        self._count = count
        self._lends_at_most = lends_at_most
        self._running: set[int] = set()
        self._overdue: set[int] = set()

    @property
    def free(self) -> int:
        return self._count - len(self._running) + min(len(self._overdue), self._lends_at_most)

    def start(self, fences: Iterable[int]) -> None:
        """These jobs run now."""
        self._running.update(fences)

    def overdue(self, fence: int) -> bool:
        """Lend the slot of one that takes long; False when it has ended, or enough are lent."""
        before = self.free
        if fence in self._running:
            self._overdue.add(fence)
        return self.free > before

    def end(self, fences: Iterable[int]) -> None:
        """These have ended."""
        for fence in fences:
            self._running.discard(fence)
            self._overdue.discard(fence)
