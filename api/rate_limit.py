"""How much may be asked for in a minute: a token bucket per asker, in this process's memory.

Each API process counts by itself, so N processes let N times as much through. No database is asked: a request costs a
few microseconds, and a Postgres that is away changes nothing.
"""

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60
# Askers that are remembered. One whose bucket is full is forgotten first: it is like one that never asked.
_MOST_ASKERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it may be. `remaining` is what may still cost now; `full_in_s` is when the whole quota is there again.

    `retry_after_s` is when what was refused may be asked again; 0 when it was not refused.
    """

    is_allowed: bool
    remaining: int
    full_in_s: int
    retry_after_s: int = 0


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class RateLimit:
    """At most `per_minute` at once, and as many a minute after that; 0: no limit. Belongs to one event loop."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / WINDOW_S
        self._clock = clock
        self._buckets: dict[Hashable, _Bucket] = {}

    def take(self, who: Hashable, cost: int = 1) -> Verdict:
        """Spend `cost` when it is there; what is refused spends nothing.

        More than a whole minute's quota passes when the quota is untouched, and is then paid off: a batch that could
        never pass would be refused for ever.
        """
        if not self.per_minute:
            return Verdict(is_allowed=True, remaining=0, full_in_s=0)
        bucket = self._filled(who)
        needed = min(cost, self.per_minute)
        if bucket.tokens < needed:
            return Verdict(
                is_allowed=False,
                remaining=max(0, math.floor(bucket.tokens)),
                full_in_s=self._full_in_s(bucket),
                retry_after_s=max(1, math.ceil((needed - bucket.tokens) / self._per_s)),
            )
        bucket.tokens -= cost
        return Verdict(is_allowed=True, remaining=max(0, math.floor(bucket.tokens)), full_in_s=self._full_in_s(bucket))

    @property
    def has_any(self) -> bool:
        """Whether anybody has asked lately."""
        return bool(self._buckets)

    def has_left(self, who: Hashable) -> bool:
        """Whether the next one that costs 1 would pass; spends nothing."""
        return not self.per_minute or who not in self._buckets or self._filled(who).tokens >= 1

    def retry_after_s(self, who: Hashable) -> int:
        """In how many whole seconds, at least 1, one that costs 1 passes."""
        return max(1, math.ceil((1 - self._filled(who).tokens) / self._per_s))

    def _filled(self, who: Hashable) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= _MOST_ASKERS:
                self._forget(now)
            bucket = self._buckets[who] = _Bucket(self.per_minute, now)
            return bucket
        bucket.tokens = min(self.per_minute, bucket.tokens + (now - bucket.at) * self._per_s)
        bucket.at = now
        return bucket

    def _full_in_s(self, bucket: _Bucket) -> int:
        return math.ceil((self.per_minute - bucket.tokens) / self._per_s)

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full by now; when none is, the half that was asked longest ago."""
        kept = {
            who: bucket
            for who, bucket in self._buckets.items()
            if bucket.tokens + (now - bucket.at) * self._per_s < self.per_minute
        }
        if len(kept) >= _MOST_ASKERS:
            newest = sorted(kept.items(), key=lambda item: item[1].at)[_MOST_ASKERS // 2 :]
            kept = dict(newest)
        self._buckets = kept
