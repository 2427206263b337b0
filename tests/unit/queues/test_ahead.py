"""How many jobs are claimed ahead of their slot, and which of them are never started."""

from datetime import UTC, datetime

import pytest

from shared.domain.jobs import Job, QueueName
from shared.queues.ahead import AT_MOST, HOLD_S, Ahead


def job(pk: int = 1, *, stalled: int = 0) -> Job:
    return Job(
        pk=pk,
        job_id=f"job-{pk}",
        queue=QueueName.MESSAGE_STATUS,
        name="test",
        data={},
        attempt=1,
        max_attempts=4,
        stalled=stalled,
        fence=pk,
        group=None,
        order_key=None,
        priority=4,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def quick(*, slots: int = 10) -> Ahead:
    """Its handlers take 0.1 ms."""
    ahead = Ahead(slots=slots)
    ahead.ran(0.0001)
    return ahead


def test_nothing_is_claimed_ahead_before_a_handler_has_ended() -> None:
    assert Ahead(slots=10).wanted(10) == 10


@pytest.mark.parametrize(
    ("slots", "handler_s", "room"),
    [(10, 0.0001, AT_MOST), (10, 0.006, 50), (3, 0.015, 6), (100, 0.0299, AT_MOST), (100, 0.030, 0), (5, 0.3, 0)],
)
def test_thirty_milliseconds_of_work_are_claimed_ahead_and_none_of_handlers_that_take_as_long(
    slots: int, handler_s: float, room: int
) -> None:
    ahead = Ahead(slots=slots)

    ahead.ran(handler_s)

    assert ahead.wanted(slots) == slots + room


def test_a_claim_ahead_waits_until_half_of_it_is_used_up() -> None:
    ahead = quick()
    ahead.add([job(pk) for pk in range(AT_MOST)], now=0)

    ahead.take(AT_MOST // 2 - 1, now=0)
    before_half = ahead.wanted(0)
    ahead.take(1, now=0)

    assert before_half == 0
    assert ahead.wanted(0) == AT_MOST // 2


def test_jobs_start_in_the_order_in_which_they_were_claimed() -> None:
    ahead = quick()
    ahead.add([job(1), job(2)], now=0)
    ahead.add([job(3)], now=0.01)

    assert [one.pk for one in ahead.take(10, now=0.02)] == [1, 2, 3]


def test_what_waited_too_long_is_not_started_and_stops_the_claiming_ahead() -> None:
    ahead = quick()
    ahead.add([job(1)], now=0)
    ahead.add([job(2)], now=HOLD_S)
    late = HOLD_S * 1.5

    started = ahead.take(10, now=late)
    stale = ahead.take_stale(now=late)

    assert started == []
    assert [one.pk for one in stale] == [1]
    assert [one.pk for one in ahead.take(10, now=late)] == [2]
    assert ahead.room == 0


def test_a_job_that_a_worker_died_with_lets_no_other_wait_beside_it() -> None:
    ahead = quick()

    ahead.add([job(1), job(2, stalled=1)], now=0)

    assert ahead.room == 0


def test_handlers_that_turn_slow_end_the_claiming_ahead_and_quick_ones_bring_it_back() -> None:
    ahead = quick()

    ahead.ran(0.6)
    while_slow = ahead.room
    for _ in range(100):
        ahead.ran(0.0001)

    assert while_slow == 0
    assert ahead.room > 0


def test_a_lost_claim_is_forgotten_and_the_others_stay() -> None:
    ahead = quick()
    ahead.add([job(1), job(2), job(3)], now=0)

    lost = ahead.drop({2, 9})

    assert [one.pk for one in lost] == [2]
    assert [one.pk for one in ahead.take(10, now=0)] == [1, 3]
