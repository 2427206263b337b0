"""An alert is raised once per episode, after its time, and resolved once it has been calm for a minute."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.db.watch import AlertState
from shared.queues import alerts
from shared.queues.alerts import RULES, Turn

START = datetime(2026, 1, 1, tzinfo=UTC)
BACKLOG, FAILING = RULES
DEEP: dict[str, Any] = {"name": "message:send", "total": 1001}
SHALLOW: dict[str, Any] = {"name": "message:send", "total": 1000}


def _episode(rule: alerts.Rule, numbers: dict[int, dict[str, Any]], until_s: int) -> dict[int, Turn]:
    """Look every 10 s; `numbers` hold from their second on. What was told, and when."""
    state: AlertState | None = None
    told = {}
    now_numbers: dict[str, Any] = {}
    for second in range(0, until_s + 1, 10):
        now_numbers = numbers.get(second, now_numbers)
        state, turn = alerts.step(rule, state, now_numbers, now=START + timedelta(seconds=second))
        if turn is not None:
            told[second] = turn
    return told


def test_a_deep_queue_is_told_after_five_minutes_and_once() -> None:
    assert _episode(BACKLOG, {0: DEEP}, 2000) == {300: Turn.RAISED}


def test_a_deep_queue_that_drains_in_time_is_never_told() -> None:
    assert _episode(BACKLOG, {0: DEEP, 290: SHALLOW, 300: DEEP, 590: SHALLOW}, 2000) == {}


def test_an_episode_ends_after_a_calm_minute() -> None:
    assert _episode(BACKLOG, {0: DEEP, 400: SHALLOW}, 2000) == {300: Turn.RAISED, 460: Turn.RESOLVED}


def test_a_number_that_swings_about_its_limit_is_one_episode() -> None:
    swinging = {second: SHALLOW if second % 60 else DEEP for second in range(310, 1000, 10)}

    assert _episode(BACKLOG, {0: DEEP, **swinging, 1000: SHALLOW}, 2000) == {300: Turn.RAISED, 1030: Turn.RESOLVED}


def test_a_second_episode_is_told_anew() -> None:
    told = _episode(BACKLOG, {0: DEEP, 400: SHALLOW, 600: DEEP}, 1000)

    assert told == {300: Turn.RAISED, 460: Turn.RESOLVED, 900: Turn.RAISED}


@pytest.mark.parametrize(
    ("failure_rate", "ended", "is_told"),
    [(0.051, 20, True), (0.05, 1000, False), (1.0, 19, False), (0.0, 1000, False), (1.0, 20, True)],
)
def test_a_queue_fails_when_more_than_a_twentieth_of_enough_jobs_did(
    failure_rate: float, ended: int, *, is_told: bool
) -> None:
    numbers = {"name": "message:send", "failure_rate": failure_rate, "processing_rate": round(ended / 60, 4)}

    _, turn = alerts.step(FAILING, None, numbers, now=START)

    assert (turn is Turn.RAISED) == is_told


def test_the_event_tells_when_it_began_and_ended() -> None:
    numbers = dict.fromkeys(BACKLOG.shown, 5) | {"name": "message:send", "total": 3}
    state = AlertState(since=START, raised_at=START + timedelta(minutes=5), calm_since=START + timedelta(minutes=9))

    told = alerts.payload(BACKLOG, state, numbers, Turn.RESOLVED, now=START + timedelta(minutes=10))

    assert (told["queue"], told["state"], told["total"]) == ("message:send", "resolved", 3)
    assert (told["since"], told["ended_at"]) == ("2026-01-01T00:00:00.000Z", "2026-01-01T00:09:00.000Z")
    assert (told["threshold"], told["for_seconds"]) == (1000, 300)
