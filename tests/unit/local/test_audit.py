"""What `./zh check` says of known holes in the pinned packages, and when nobody could be asked."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from local.audit import audit

_CLEAN = {"name": "one", "version": "1.0", "vulns": []}
_HOLED = {"name": "two", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}]}
_UNKNOWN = {"name": "one", "skip_reason": "Dependency not found on PyPI and could not be audited"}


class Answers:
    """Stands for pip-audit: answers in turn, and remembers what it was asked about."""

    def __init__(self, *answers: object) -> None:
        self._answers = iter(answers)
        self.asked: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        self.asked.append(Path(arguments[1]).read_text(encoding="utf-8"))
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps({"dependencies": answer, "fixes": []})


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    path = tmp_path / "pins.txt"
    path.write_text(
        "# made\none==1.0 \\\n    --hash=sha256:aa\ntwo==2.0 ; python_version < '3.12' \\\n    --hash=sha256:bb\n"
    )
    return path


def test_pins_without_holes_are_fine(pins: Path) -> None:
    audited = audit(Answers([_CLEAN], [_CLEAN, {**_HOLED, "vulns": []}]), pins=pins)

    assert (audited.is_ok, list(audited.lines)) == (True, [])


def test_each_hole_is_named_with_what_mends_it(pins: Path) -> None:
    audited = audit(Answers([_CLEAN], [_CLEAN, _HOLED]), pins=pins)

    assert (audited.is_ok, list(audited.lines)) == (False, ["two 2.0: PYSEC-1, mended in 2.1, 3.0"])


@pytest.mark.parametrize("answer", ["", "no json", [_UNKNOWN], subprocess.TimeoutExpired("pip-audit", 180)])
def test_an_index_that_does_not_tell_is_asked_once_and_skipped(pins: Path, answer: object) -> None:
    answers = Answers(answer)

    audited = audit(answers, pins=pins)

    assert audited.is_ok is None
    assert audited.lines[0].startswith("the package index cannot be asked")
    assert answers.asked == ["one==1.0\n"]


def test_the_real_pins_can_be_read() -> None:
    answers = Answers([_UNKNOWN])

    audit(answers)

    assert len(answers.asked[0].split("==")) == 2
