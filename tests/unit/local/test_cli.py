"""The command line's own behaviour: what it says, what it loads, how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import cli
from local.cli import main
from local.environment import CHECKOUT

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


@pytest.mark.parametrize(
    ("name", "meant"), [("dmeo", " Did you mean demo?"), ("resotre", " Did you mean restore?"), ("--port", "")]
)
def test_a_command_that_there_is_not_ends_with_two(name: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 2

    assert capsys.readouterr().err == f"zh: there is no command {name}.{meant} ./zh help names them all.\n"


@pytest.mark.parametrize("name", ["api", "worker", "scheduler", "session-host"])
def test_a_part_says_its_options_without_a_database(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local.cli", name, "--help"]

    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert f"./zh {name} [--data-dir D]" in done.stdout
    assert "--help" in done.stdout


def test_a_reader_who_left_is_nothing_to_complain_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "local.cli", "help"], cwd=CHECKOUT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)

    assert done.stderr == b""


def test_what_a_terminal_cannot_show_does_not_end_a_command() -> None:
    code = "from local.cli import main; main(['help']); print('ação ▀')"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith("a??o ?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--wings"],
        ["up", "--port", "70000"],
        ["up", "--port", "-1"],
        ["up", "--workers", "-1"],
        ["keys"],
        ["keys", "create", "--name", "crm"],
    ],
)
def test_a_wrong_command_line_ends_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2


@pytest.mark.parametrize("command", ["doctor", "keys list", "migrate", "worker", "backup"])
def test_a_data_folder_that_is_a_file_is_refused_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()

    assert main([*command.split(), "--data-dir", str(file)]) == 1

    said = capsys.readouterr()
    told = said.out if command == "doctor" else said.err
    assert str(file) in told
    assert command == "doctor" or told.count("\n") == 1


def test_an_address_of_another_machine_is_named_by_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZAPHUB_HOST", "192.0.2.1")

    assert main(["doctor", "--data-dir", str(tmp_path)]) == 1

    assert "correct ZAPHUB_HOST" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--name", "", "--scopes", "admin"],
        ["--name", "n" * 101, "--scopes", "admin"],
        ["--name", "crm", "--scopes", ","],
        ["--name", "crm", "--scopes", "admin", "--connections", ""],
    ],
)
def test_a_key_that_would_be_useless_is_not_made(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", *options]) == 1

    assert "No database" not in capsys.readouterr().err


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZAPHUB_PORT", "many")

    assert main(["worker"]) == 1

    assert "ZAPHUB_PORT" in capsys.readouterr().err
