"""The migration page names every call, event, status and number that the doors and formats have, and no others."""

import re
from pathlib import Path

from api.compat.cloud.inputs import KINDS
from api.compat.cloud.route import _AWAY, _GONE, _INVALID, _MISSING, _NOT_VALID, _THEIRS
from api.compat.evolution.messages import _UNSENT
from api.compat.evolution.router import ROUTERS
from shared.domain.message import MessageStatus
from shared.domain.session import SessionStatus
from shared.webhooks.formats import cloud_api, evolution
from shared.webhooks.formats.evolution_message import STATUSES

PAGE = (Path(__file__).parents[3] / "docs" / "migration.md").read_text(encoding="utf-8")
EVOLUTION, _, CLOUD = PAGE.partition("## From Evolution API")[2].partition("## From Meta's Cloud API")
CLOUD = CLOUD.partition("## From WAHA")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without the headings' rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_it_lists_the_calls_of_evolutions_door() -> None:
    there = {
        f"{method} {route.path.removeprefix(router.prefix)}"
        for router in ROUTERS
        for route in router.routes
        if len(route.methods) == 1
        for method in route.methods
    } - {"POST /message/{kind}/{instance}"}

    assert {word for cells in rows(EVOLUTION) for word in words(cells[0]) if word.partition(" ")[2]} == there
    assert set(_UNSENT) <= set(words(EVOLUTION))


def test_it_says_where_each_event_of_theirs_comes_from() -> None:
    told = {
        words(cells[1])[0]: {word for word in words(cells[2]) if word.startswith(("message.", "session."))}
        for cells in rows(EVOLUTION)
        if len(cells) == 3 and words(cells[1]) and words(cells[1])[0].isupper() and "." in cells[0]
    }

    assert told == {name: set(sources) for name, sources in evolution.SOURCES.items()}


def test_it_says_what_each_status_of_ours_is_there() -> None:
    states = {
        status: (words(cells[1])[0], int(cells[2]))
        for cells in rows(EVOLUTION)
        if len(cells) == 3 and cells[2].isdecimal()
        for status in words(cells[0])
    }
    statuses = {
        status: words(cells[1])[0]
        for cells in rows(EVOLUTION)
        if len(cells) == 2 and words(cells[1])[:1] and words(cells[1])[0] in STATUSES.values()
        for status in words(cells[0])
    }

    assert states == {status.value: evolution._STATES[status] for status in SessionStatus}
    assert statuses == {status.value: STATUSES[status] for status in MessageStatus}


def test_it_lists_the_cloud_apis_types_statuses_and_numbers() -> None:
    statuses = {
        event: words(cells[1])[0]
        for cells in rows(CLOUD)
        if cells[0].startswith("`message.")
        for event in words(cells[0])
    }
    numbers = {number for _, number, _ in (*_THEIRS.values(), _AWAY, _GONE, _INVALID, _MISSING, _NOT_VALID)} | {131051}
    listed = {int(number) for cells in rows(CLOUD) for number in re.findall(r"\b\d{1,6}\b", cells[0])} - {33}

    assert set(KINDS) <= set(words(CLOUD))
    assert statuses == cloud_api._STATUSES
    assert listed == numbers
    for number, _ in (*cloud_api._ERRORS.values(), cloud_api._GENERAL):
        assert str(number) in CLOUD
