"""The command line's own behaviour: what it says, what it loads, how it ends."""

import subprocess
import sys

import pytest

from local import cli
from local.cli import main

# Whatever takes long to load, or would open a connection or the Go library.
_HEAVY = {"asyncpg", "fastapi", "neonize", "pydantic", "redis", "rich", "taskiq"}


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0

    text = capsys.readouterr().out
    for name in ("demo", "up", "test", "doctor", "keys", "migrate", "check", "bench", "api", "worker", "session-host"):
        assert name in text


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from local.cli import main; main(['help']); print(*sys.modules, file=sys.stderr)"

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert _HEAVY.isdisjoint(done.stderr.split())


def test_a_module_that_is_missing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._elsewhere("local.nowhere.main", [], name="nowhere") == 2

    assert capsys.readouterr().err == "zh: nowhere: not in this version.\n"


@pytest.mark.parametrize("arguments", [["fly"], ["up", "--wings"], ["keys"], ["keys", "create", "--name", "crm"]])
def test_a_wrong_command_line_ends_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZAPHUB_PORT", "many")

    assert main(["worker"]) == 1

    assert "ZAPHUB_PORT" in capsys.readouterr().err
