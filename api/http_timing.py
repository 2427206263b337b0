"""How long requests took, by route, method and status: this process's own histogram."""

from bisect import bisect_left
from typing import Final

from shared.exposition import Family, Histogram

_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A client may invent methods; they are one.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpTiming:
    """Counts since the process started. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._sums: dict[tuple[str, str, int], float] = {}

    def observe(self, route: str, method: str, status: int, duration_s: float) -> None:
        key = (route, method if method in _METHODS else "other", status)
        counts = self._counts.setdefault(key, [0] * (len(_BOUNDS_S) + 1))
        counts[bisect_left(_BOUNDS_S, duration_s)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + duration_s

    def family(self) -> Family:
        samples = [
            (
                {"route": route, "method": method, "status": str(status)},
                Histogram(_BOUNDS_S, counts, self._sums[route, method, status]),
            )
            for (route, method, status), counts in sorted(self._counts.items())
        ]
        return Family("zaphub_http_request_duration_seconds", "histogram", "Requests to this API process.", samples)
