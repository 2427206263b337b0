"""The rule by which a soak is judged: what is flat and what grows."""

import pytest

from local.soak.trend import FEWEST_SAMPLES, trend


def test_a_level_that_swings_is_flat_and_its_ends_are_medians() -> None:
    found = trend([100, 104, 99, 101] * 10, slack=0)

    assert found.is_flat
    assert 99 <= found.began <= 104
    assert 99 <= found.ended <= 104


def test_a_steady_rise_grows_also_when_each_step_is_small() -> None:
    assert not trend([100 + number * 0.5 for number in range(60)], slack=0).is_flat


def test_what_rises_in_the_first_quarter_alone_was_warm_up() -> None:
    warm_up, level = [50.0 + number * 5 for number in range(10)], [100.0] * 30

    assert trend([*warm_up, *level], slack=0).is_flat


def test_one_odd_sample_decides_nothing() -> None:
    assert trend([100.0] * 39 + [900.0], slack=0).is_flat


def test_a_small_number_may_rise_by_its_slack() -> None:
    samples = [10.0] * 20 + [13.0] * 20

    assert trend(samples, slack=4).is_flat
    assert not trend(samples, slack=2).is_flat


def test_a_fall_is_flat() -> None:
    assert trend([200.0 - number for number in range(40)], slack=0).is_flat


def test_too_few_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="say nothing"):
        trend([1.0] * (FEWEST_SAMPLES - 1), slack=0)
