"""The token bucket: what passes, what is said of the rest, and what is remembered of whom."""

import pytest

from api import rate_limit
from api.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_exactly_the_quota_passes_at_once(clock: Clock) -> None:
    limit = RateLimit(50, clock=clock)

    assert sum(limit.take("key").is_allowed for _ in range(200)) == 50


def test_the_quota_comes_back_evenly(clock: Clock) -> None:
    limit = RateLimit(60, clock=clock)
    for _ in range(60):
        limit.take("key")

    clock.now += 10

    assert sum(limit.take("key").is_allowed for _ in range(60)) == 10


def test_more_than_the_quota_is_never_saved_up(clock: Clock) -> None:
    limit = RateLimit(5, clock=clock)
    limit.take("key")

    clock.now += 3600

    assert sum(limit.take("key").is_allowed for _ in range(20)) == 5


def test_what_is_refused_costs_nothing_and_passes_after_the_time_it_was_told(clock: Clock) -> None:
    limit = RateLimit(60, clock=clock)
    limit.take("key", 55)

    refused = limit.take("key", 10)
    clock.now += refused.retry_after_s
    again = limit.take("key", 10)

    assert (refused.is_allowed, refused.remaining, refused.retry_after_s) == (False, 5, 5)
    assert again.is_allowed


def test_a_cost_above_the_quota_passes_when_the_quota_is_whole_and_is_paid_off(clock: Clock) -> None:
    limit = RateLimit(60, clock=clock)

    first = limit.take("key", 180)
    refused = limit.take("key")

    assert (first.is_allowed, first.remaining) == (True, 0)
    assert refused.retry_after_s == 121
    clock.now += 121
    assert limit.take("key").is_allowed


def test_everybody_has_a_quota_of_their_own(clock: Clock) -> None:
    limit = RateLimit(1, clock=clock)
    limit.take("one")

    assert not limit.take("one").is_allowed
    assert limit.take("another").is_allowed


def test_zero_is_no_limit(clock: Clock) -> None:
    limit = RateLimit(0, clock=clock)

    assert all(limit.take("key", 1000).is_allowed for _ in range(100))
    assert limit.has_left("key")
    assert not limit.has_any


def test_asking_whether_there_is_some_left_spends_nothing(clock: Clock) -> None:
    limit = RateLimit(1, clock=clock)

    assert all(limit.has_left("key") for _ in range(3))
    limit.take("key")
    assert not limit.has_left("key")
    assert limit.retry_after_s("key") == 60


def test_whoever_has_the_whole_quota_again_is_forgotten_first(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "_MOST_ASKERS", 10)
    limit = RateLimit(60, clock=clock)
    limit.take("greedy", 60)
    for number in range(50):
        limit.take(number)
        clock.now += 1

    assert not limit.take("greedy", 60).is_allowed, "the one that spent most is still known"


def test_the_memory_for_askers_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "_MOST_ASKERS", 10)
    limit = RateLimit(60, clock=clock)
    for number in range(1000):
        limit.take(number, 60)

    assert len(limit._buckets) <= 10
