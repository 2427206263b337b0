""".env.example lists every setting that a user may set, once, with the default that the code has."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import Settings

_PAGE = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
_LINES = re.findall(r"^#ZAPHUB_([A-Z_]+)=(.*)$", _PAGE, re.MULTILINE)
# The supervisor and the tests set these.
_INTERNAL = {"run_dir", "part"}
_REQUIRED = {"database_url": "postgresql://localhost/zaphub", "secret_key": "a-key-for-this-test"}


def test_it_names_every_setting_once() -> None:
    named = [name.lower() for name, _ in _LINES]

    assert sorted(named) == sorted(set(Settings.model_fields) - _INTERNAL)


def test_nothing_in_it_is_set() -> None:
    assert not [line for line in _PAGE.splitlines() if line and not line.startswith("#")]


def test_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    for name, value in _REQUIRED.items():
        monkeypatch.setenv(f"ZAPHUB_{name.upper()}", value)
    by_default = Settings()

    for name, value in _LINES:
        if value:
            monkeypatch.setenv(f"ZAPHUB_{name}", value)

    assert Settings() == by_default


def test_what_has_no_default_shows_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shown = {name.lower(): value for name, value in _LINES}

    with pytest.raises(ValidationError) as missing:
        Settings()

    assert {str(one["loc"][0]): shown[str(one["loc"][0])] for one in missing.value.errors()} == dict.fromkeys(
        _REQUIRED, ""
    )
    assert [
        name
        for name, field in Settings.model_fields.items()
        if name not in _INTERNAL | set(_REQUIRED) and field.default not in (None, [], {}) and not shown[name]
    ] == []
