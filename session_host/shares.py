"""How many sessions each host should hold, which free ones it takes, and how many it hands over. Pure."""

from collections.abc import Sequence
from math import ceil
from typing import Final

from shared.db.hosts import LiveHost
from shared.domain.ids import ConnectionId, HostId

# A session that nobody took for so long is taken beyond a host's part: the one whose part it is, is not at work.
PATIENCE_S: Final = 3.0


def share_of(host: HostId, live: Sequence[LiveHost], *, free: int) -> int:
    """The host's part of all sessions, held and `free`, rounded up; 0 for one that is not in the list.

    The parts together are never less than the sessions, as far as there is room, so a session that one host gives
    away for having more than its part is always within the part of another: nothing swings to and fro.
    """
    mine = next((one for one in live if one.id == host), None)
    if mine is None:
        return 0
    sessions = sum(one.sessions for one in live) + free
    return min(ceil(sessions * mine.capacity / sum(one.capacity for one in live)), mine.capacity)


class Level:
    """One host's memory of how things stand. Times are seconds of one clock."""

    def __init__(self, *, settle_s: float) -> None:
        self._settle_s = settle_s
        self._free_since: dict[ConnectionId, float] = {}
        self._even_at: float | None = None

    def takes(
        self, free: Sequence[ConnectionId], *, share: int, held: int, room: int, now_s: float
    ) -> list[ConnectionId]:
        """Which free sessions to take now: up to the part, late ones beyond it too; `room` at the most."""
        self._free_since = {one: self._free_since.get(one, now_s) for one in free}
        late = [one for one in free if now_s - self._free_since[one] > PATIENCE_S]
        wanted = dict.fromkeys([*free[: max(share - held, 0)], *late])
        return list(wanted)[: max(room, 0)]

    def gives(self, *, share: int, held: int, free: int, now_s: float) -> int:
        """How many to hand over now: none before it had too many for `settle_s`, nor while others have no host.

        A host that has only just come may be gone again, and a rolling start brings several.
        """
        if share == 0 or held <= share:
            self._even_at = now_s
        if self._even_at is None:
            self._even_at = now_s
        return 0 if free or now_s - self._even_at < self._settle_s else max(held - share, 0)
