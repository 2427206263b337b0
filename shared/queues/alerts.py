"""The alert rules of the queues: which hold, for how long, and when an episode begins and ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from shared.db.watch import AlertState
from shared.queues.metrics import RATE_WINDOW_S

DEPTH: Final = 1000
DEPTH_FOR: Final = timedelta(minutes=5)
FAILURE_RATE: Final = 0.05
# One of three jobs is no rate. So many must have ended in the minute.
ENDED_AT_LEAST: Final = 20
# An episode is over when its rule has not held for so long: a number that swings about its limit is one episode.
CALM_FOR: Final = timedelta(minutes=1)

Numbers = Mapping[str, Any]


class Turn(StrEnum):
    """What an alert's event tells."""

    RAISED = "raised"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Raised when `holds` of a queue's numbers was true for `lasts`. `shown` are the numbers that its event tells."""

    type: str
    holds: Callable[[Numbers], bool]
    lasts: timedelta
    threshold: float
    shown: tuple[str, ...]


def _is_failing(numbers: Numbers) -> bool:
    ended = numbers["processing_rate"] * RATE_WINDOW_S
    return bool(numbers["failure_rate"] > FAILURE_RATE and round(ended) >= ENDED_AT_LEAST)


RULES: Final = (
    Rule(
        type="queue.backlog",
        holds=lambda numbers: bool(numbers["total"] > DEPTH),
        lasts=DEPTH_FOR,
        threshold=DEPTH,
        shown=("total", "waiting", "active", "delayed", "parked", "oldest_waiting_seconds"),
    ),
    Rule(
        type="queue.failing",
        holds=_is_failing,
        lasts=timedelta(0),
        threshold=FAILURE_RATE,
        shown=("failure_rate", "processing_rate", "dlq"),
    ),
)


def step(
    rule: Rule, state: AlertState | None, numbers: Numbers, *, now: datetime
) -> tuple[AlertState | None, Turn | None]:
    """The alert's next state (None: nothing to remember), and what its event tells when there is one."""
    if rule.holds(numbers):
        state = replace(state, calm_since=None) if state else AlertState(since=now)
        if state.raised_at is None and now - state.since >= rule.lasts:
            return replace(state, raised_at=now), Turn.RAISED
        return state, None
    if state is None or state.raised_at is None:
        return None, None
    state = replace(state, calm_since=state.calm_since or now)
    if state.calm_since is not None and now - state.calm_since >= CALM_FOR:
        return None, Turn.RESOLVED
    return state, None


def payload(rule: Rule, state: AlertState, numbers: Numbers, turn: Turn, *, now: datetime) -> dict[str, Any]:
    """What the event tells. `since` is when the rule began to hold, `ended_at` when it held last."""
    ended_at = state.calm_since or now
    return {
        "queue": numbers["name"],
        "state": turn.value,
        "since": _shown(state.since),
        "raised_at": _shown(state.raised_at or now),
        "ended_at": _shown(ended_at) if turn is Turn.RESOLVED else None,
        "threshold": rule.threshold,
        "for_seconds": int(rule.lasts.total_seconds()),
        **{name: numbers[name] for name in rule.shown},
    }


def _shown(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
