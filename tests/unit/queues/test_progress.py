"""What a job may say of its progress."""

from typing import Any

import pytest

from shared.domain.jobs import Progress


def test_the_newest_report_counts_and_is_news_once() -> None:
    progress = Progress()
    progress.report(10)
    progress.report({"rows": 20})

    assert (progress.news(), progress.news()) == ({"rows": 20}, None)


def test_no_report_is_no_news_and_zero_is_some() -> None:
    progress = Progress()
    before = progress.news()
    progress.report(0)

    assert (before, progress.news()) == (None, 0)


@pytest.mark.parametrize("value", [-1, 100.1, float("nan"), {"n": float("inf")}, {"text": "x" * 2048}])
def test_what_is_no_progress_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"progress|Out of range"):
        Progress().report(value)


def test_what_is_said_is_what_it_was_then() -> None:
    progress, rows = Progress(), {"n": 1}
    progress.report(rows)
    rows["n"] = 2

    assert progress.news() == {"n": 1}
