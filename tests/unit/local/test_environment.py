"""What counts as set, and what children get."""

from pathlib import Path

import pytest

from local.environment import CHECKOUT, for_children, is_set, local_settings, settings_with
from shared.domain.errors import Misconfigured


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a `.env`."""
    monkeypatch.chdir(tmp_path)


def test_a_setting_may_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ZAPHUB_PORT=9000\n", encoding="utf-8")
    monkeypatch.setenv("zaphub_host", "0.0.0.0")

    assert is_set("port")
    assert is_set("host")
    assert not is_set("database_url")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", "")

    assert not is_set("database_url")


def test_a_fallback_yields_to_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", "postgresql://mine/zaphub")

    settings = settings_with({"database_url": "postgresql://fallback/zaphub", "secret_key": "s" * 16})

    assert settings.database_url == "postgresql://mine/zaphub"
    assert settings.secret_key.get_secret_value() == "s" * 16


def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_ADMIN_KEY", "tooshort")

    with pytest.raises(Misconfigured, match="ZAPHUB_ADMIN_KEY") as error:
        local_settings()

    assert "tooshort" not in error.value.detail


def test_the_data_folder_is_in_the_checkout_wherever_one_stands() -> None:
    assert local_settings().data_dir == CHECKOUT / ".zaphub"


def test_children_inherit_all_but_what_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_PORT", "1")
    monkeypatch.setenv("zaphub_run_dir", "/old")
    monkeypatch.setenv("KEPT", "yes")

    environment = for_children({"port": "2", "run_dir": None})

    assert environment["KEPT"] == "yes"
    assert environment["ZAPHUB_PORT"] == "2"
    assert not {"ZAPHUB_RUN_DIR", "zaphub_run_dir"} & set(environment)
