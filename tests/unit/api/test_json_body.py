"""Strict JSON: what is kept as it came, and what is refused although a lenient parser would take it."""

import json

import pytest

from api.json_body import MAX_DEPTH, parse
from api.problems import Problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 9223372036854775808}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\\u0000"}',
        b'{"a": "\x00"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',  # a surrogate in UTF-8's clothes
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "a": 1}}',
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a": "tab\there"}',
        b"1 2",
    ],
)
def test_what_cannot_be_kept_is_a_problem_400(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse(body)

    assert (caught.value.status_code, caught.value.code) == (400, "MALFORMED_JSON")


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1, 0.5, True, None, "ação 👍 \u202e"]},
        {"big": 2**63 - 1, "small": -(2**63)},
        {"escaped": '\n\t"\\/'},
        [],
        "text",
        {"": {}},
    ],
)
def test_the_rest_comes_through_unchanged(value: object) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


def test_a_pair_of_escapes_is_one_character() -> None:
    assert parse(b'"\\ud83d\\udc4d"') == "👍"


def test_the_deepest_that_is_taken() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


def test_the_reason_never_repeats_the_body() -> None:
    with pytest.raises(Problem) as caught:
        parse(b'{"secret": whsec_abcdef}')

    assert "whsec" not in caught.value.detail
