"""Ranges against a model that walks the bytes, and names that stay names."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from api.media_range import Part, Unsatisfiable, http_date, is_known, part_wanted
from shared.domain.media import safe_filename

ETAG = '"abc"'
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
NUMBERS = st.one_of(st.integers(0, 30), st.integers(0, 10**40))


def wanted(header: str, size: int, **headers: str) -> Part | str | None:
    try:
        return part_wanted({"range": header, **headers}, size=size, etag=ETAG, modified=AT)
    except Unsatisfiable:
        return "unsatisfiable"


@given(st.one_of(st.none(), NUMBERS), st.one_of(st.none(), NUMBERS), st.integers(0, 30))
def test_one_range_is_the_bytes_whose_places_are_in_it(first: int | None, last: int | None, size: int) -> None:
    places = range(size)
    if first is None and last is None:
        expected = None
    elif first is None:
        assert last is not None
        expected = [place for place in places if place >= size - last]
    elif last is None:
        expected = [place for place in places if place >= first]
    elif last < first:
        expected = None
    else:
        expected = [place for place in places if first <= place <= last]

    found = wanted(f"bytes={'' if first is None else first}-{'' if last is None else last}", size)

    match found:
        case Part(start, stop):
            assert list(range(start, stop)) == expected
        case "unsatisfiable":
            assert expected == []
        case _:
            assert expected is None


@given(st.text(), st.integers(0, 30))
@example("bytes=0-1,3-4", 10)
@example("items=0-1", 10)
@example("bytes=\u0660-\u0661", 10)
@example("bytes=-1-2", 10)
@example("bytes=+1-2", 10)
def test_whatever_else_is_asked_for_gives_the_whole_and_no_error(header: str, size: int) -> None:
    found = wanted(header, size)

    assert found in {None, "unsatisfiable"} or isinstance(found, Part)
    if isinstance(found, Part):
        assert 0 <= found.start < found.stop <= size


def test_if_range_counts_only_for_this_very_version() -> None:
    assert wanted("bytes=0-1", 9, **{"if-range": ETAG}) == Part(0, 2)
    assert wanted("bytes=0-1", 9, **{"if-range": http_date(AT)}) == Part(0, 2)
    for other in ('"other"', f"W/{ETAG}", "abc", "Fri, 02 Jan 2026 03:04:06 GMT", ""):
        assert wanted("bytes=0-1", 9, **{"if-range": other}) is None
        assert wanted("bytes=99-", 9, **{"if-range": other}) is None


def test_if_none_match_is_a_list_of_tags() -> None:
    assert [is_known({"if-none-match": one}, etag=ETAG) for one in ("*", ETAG, f'"x",W/{ETAG}', '"x"', "abc", "")] == [
        *(True, True, True),
        *(False, False, False),
    ]


@given(st.text(max_size=400))
@example("../../etc/passwd")
@example("a\u202egnp.exe")
@example("." * 300)
def test_a_name_is_short_printable_and_no_path(given_name: str) -> None:
    name = safe_filename(given_name)

    if name is not None:
        assert 0 < len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\r\n\u202e')
        assert name.strip(" ") == name
        assert name not in {".", ".."}
        assert safe_filename(name) == name
