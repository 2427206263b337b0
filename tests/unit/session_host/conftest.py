"""Settings for code that asks whether a failpoint is set."""

from collections.abc import Iterator

import pytest

from shared import settings


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, _no_settings_from_outside: None) -> Iterator[None]:
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", "postgresql://nobody@nowhere/nothing")
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "a-secret-key-for-tests")
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()
