"""A queue's slots: how many run at once, and who runs beside them."""

from hypothesis import given
from hypothesis import strategies as st

from shared.queues.slots import Slots


def test_an_overdue_job_lends_its_slot_and_frees_none_when_it_ends() -> None:
    slots = Slots(2, lends_at_most=1)
    slots.start([1, 2])

    assert slots.free == 0
    assert slots.overdue(1)
    assert slots.free == 1
    slots.start([3])
    slots.end([1])

    assert slots.free == 0


def test_no_more_are_lent_than_allowed_and_one_that_ends_makes_room_for_the_next() -> None:
    slots = Slots(2, lends_at_most=1)
    slots.start([1, 2])

    assert slots.overdue(1)
    assert not slots.overdue(2)
    slots.start([3])
    slots.end([1])

    assert slots.free == 1, "what 1 had lent, 2 lends now"


def test_a_job_that_has_ended_lends_nothing() -> None:
    slots = Slots(1, lends_at_most=1)
    slots.start([1])
    slots.end([1])

    assert not slots.overdue(1)
    assert slots.free == 1


@given(st.integers(1, 4), st.integers(0, 4), st.lists(st.tuples(st.sampled_from("slo"), st.integers(0, 9))))
def test_never_more_run_than_the_slots_and_what_may_be_lent(
    count: int, lends_at_most: int, steps: list[tuple[str, int]]
) -> None:
    slots, running = Slots(count, lends_at_most=lends_at_most), set[int]()
    for step, fence in steps:
        if step == "s" and slots.free > 0:
            slots.start([fence])
            running.add(fence)
        elif step == "l":
            slots.overdue(fence)
        elif step == "o":
            slots.end([fence])
            running.discard(fence)
        assert slots.free >= 0
        assert len(running) <= count + lends_at_most

    slots.end(running)
    assert slots.free == count
