"""When a message is likely to leave: by the connection's rate, its cap and how long sends take; never while paused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.queues.line import Gate

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = Gate(now=NOW, reasons=(), rate_per_minute=60, burst=10, cap=1, busy=0, drawn_s=0.0, duration_s=0.0)


def _in_s(gate: Gate, ahead: int) -> float:
    at = gate.passes_at(ahead)
    assert at is not None
    return (at - NOW) / timedelta(seconds=1)


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 0), (9, 0), (10, 1), (69, 60)])
def test_the_burst_goes_at_once_and_the_rest_by_the_rate(ahead: int, seconds: float) -> None:
    assert _in_s(OPEN, ahead) == seconds


def test_what_was_sent_before_has_used_up_the_burst() -> None:
    assert _in_s(replace(OPEN, drawn_s=10.0), 0) == 1
    assert _in_s(replace(OPEN, drawn_s=9.0), 0) == 0


def test_slow_sends_hold_the_line_up_more_than_the_rate() -> None:
    assert _in_s(replace(OPEN, duration_s=3.0, busy=1), 10) == 33
    assert _in_s(replace(OPEN, duration_s=3.0, cap=3), 9) == 9


def test_without_a_rate_only_the_sends_take_time() -> None:
    assert _in_s(replace(OPEN, rate_per_minute=0, duration_s=0.5), 1000) == 500


def test_nobody_knows_when_a_pause_ends() -> None:
    assert replace(OPEN, reasons=("connection_offline",)).passes_at(0) is None
