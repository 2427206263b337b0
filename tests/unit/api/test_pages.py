"""Cursors: opaque, taken back as they were given, anything else refused."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from api.pages import cursor_of, number_cursor_of, number_of, page, place_of
from shared.domain.errors import InvalidInput

AT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_cursor_is_taken_back_as_it_was_given() -> None:
    assert place_of(cursor_of(AT, UUID(int=7))) == (AT, UUID(int=7))
    assert number_of(number_cursor_of(42)) == 42
    assert place_of(None) is None
    assert number_of(None) is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "💥", "W10", "bnVsbA", "eyJhIjoxfQ", "WyIyMDI2LTAxLTMxIiwieCJd", "=" * 9, "e" * 199]
)
def test_any_other_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput):
        place_of(cursor)
    with pytest.raises(InvalidInput):
        number_of(cursor)


@pytest.mark.parametrize("at", [AT.replace(year=1), AT.replace(year=9999), AT.replace(tzinfo=None)])
def test_a_forged_time_is_refused(at: datetime) -> None:
    with pytest.raises(InvalidInput):
        place_of(cursor_of(at, UUID(int=7)))


def test_a_full_last_page_has_no_next() -> None:
    rows = [(AT, UUID(int=n)) for n in range(3)]

    assert page(rows, limit=3, place=lambda row: row, show=lambda row: row[1].int) == {
        "data": [0, 1, 2],
        "next_cursor": None,
    }
    assert page(rows, limit=2, place=lambda row: row, show=lambda row: row[1].int)["next_cursor"] is not None
