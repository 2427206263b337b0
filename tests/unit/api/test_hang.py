"""When Postgres counts as hanging, and who finds out that it is back."""

import pytest

from api.hang import Hang


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _ends(hang: Hang, began_at: float, *, asking: bool = False, answered: bool = False, in_vain: bool = False) -> None:
    hang.ended(began_at=began_at, was_asking=asking, is_answered=answered, is_in_vain=in_vain)


def test_after_one_that_waited_in_vain_one_at_a_time_asks(clock: Clock) -> None:
    hang = Hang(clock=clock)
    assert all(hang.lets_in() for _ in range(10))

    _ends(hang, 100.0, in_vain=True)

    assert [hang.lets_in() for _ in range(3)] == [True, False, False]
    _ends(hang, 101.0, asking=True, in_vain=True)
    assert [hang.lets_in() for _ in range(2)] == [True, False]


def test_the_first_answer_lets_everybody_in_again(clock: Clock) -> None:
    hang = Hang(clock=clock)
    _ends(hang, 100.0, in_vain=True)
    assert hang.lets_in()

    _ends(hang, 101.0, asking=True, answered=True)

    assert all(hang.lets_in() for _ in range(10))


def test_whoever_asks_and_is_told_off_before_postgres_leaves_the_place_to_the_next(clock: Clock) -> None:
    hang = Hang(clock=clock)
    _ends(hang, 100.0, in_vain=True)
    assert hang.lets_in()

    _ends(hang, 101.0, asking=True)

    assert [hang.lets_in() for _ in range(2)] == [True, False]


def test_one_slow_row_while_others_are_answered_is_no_hang(clock: Clock) -> None:
    hang = Hang(clock=clock)
    clock.now = 103.0
    _ends(hang, 102.0, answered=True)

    _ends(hang, 100.0, in_vain=True)

    assert all(hang.lets_in() for _ in range(10))
