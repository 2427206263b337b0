"""The security page names tests that there are."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/security.md").read_text(encoding="utf-8")
_TESTS = {
    name
    for path in (_ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:unit|property|contract|integration|e2e)/[\w/.]+)`", _PAGE)))
)
def test_each_file_it_names_is_there(path: str) -> None:
    assert (_ROOT / "tests" / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", _PAGE))))
def test_each_test_it_names_is_there(name: str) -> None:
    assert name in _TESTS


@pytest.mark.parametrize("start", sorted(set(re.findall(r"`(test_\w+_)…`", _PAGE))))
def test_each_family_of_tests_it_names_is_there(start: str) -> None:
    assert any(name.startswith(start) for name in _TESTS)
