"""docs/states.md is the dictionary: it names every state, and allows exactly the moves that the code allows."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pytest

from shared.domain import message, session
from shared.domain.jobs import JobState
from shared.domain.message import MessageStatus, ParkedReason
from shared.domain.session import SessionStatus
from shared.domain.webhook import DeliveryStatus

Status = TypeVar("Status", bound=StrEnum)

_PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")
_SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", _PAGE, re.MULTILINE | re.DOTALL))
_ARROW = re.compile(r"^ +(\w+|\[\*\]) --> (\w+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("section", "states"),
    [
        ("A job", JobState),
        ("A message", MessageStatus),
        ("A connection", SessionStatus),
        ("A message", ParkedReason),
        ("A webhook delivery", DeliveryStatus),
    ],
)
def test_every_state_has_a_row(section: str, states: type[StrEnum]) -> None:
    first_cells = re.findall(r"^\| (`[^|]*`) \|", _SECTIONS[section], re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}

    assert {str(state) for state in states} <= named


def test_the_tables_allow_what_the_code_allows() -> None:
    assert _table("A message") == _words(message.MOVES)
    assert _table("A connection") == _words(session.MOVES)


def test_the_drawings_show_no_move_that_the_code_forbids() -> None:
    for section, allowed in (("A message", _words(message.MOVES)), ("A connection", _words(session.MOVES))):
        drawn = [(start, end) for start, end in _ARROW.findall(_SECTIONS[section]) if start != "[*]"]

        assert {end for _, end in drawn} | {start for start, _ in drawn} == set(allowed)
        assert [f"{start} --> {end}" for start, end in drawn if end not in allowed[start]] == []


def _words(moves: Mapping[Status, frozenset[Status]]) -> dict[str, set[str]]:
    return {str(start): {str(end) for end in ends} for start, ends in moves.items()}


def _table(section: str) -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \|([^|]*)\|$", _SECTIONS[section], re.MULTILINE)
    return {start: set(re.findall(r"`(\w+)`", ends)) for start, ends in rows}
