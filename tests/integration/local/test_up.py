"""`./zh up` as people and other programs meet it: processes, files, signals and exit codes."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import asyncpg
import pytest

from local.run_dir import is_alive
from tests.integration.local.running_up import DEADLINE_S, Up, processes_of, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a supervisor's death ends its children on Linux only")

_PARTS = {"supervisor", "postgres", "valkey", "session-host", "api", "worker-1", "worker-2", "scheduler"}


def _run(up: Up, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local.cli", *arguments],
        cwd=up.folder,
        env={**os.environ, **up.environment},  # noqa: TID251 - a child inherits it
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_the_ready_file_names_every_url_and_process(up: Up) -> None:
    up.start("--workers", "2")

    ready = up.ready()

    assert set(ready) == {
        *{"api_url", "api_key", "dashboard_url", "database_url", "redis_url", "fake_whatsapp_url", "pids"}
    }
    assert set(ready["pids"]) == _PARTS
    assert all(is_alive(pid) for pid in ready["pids"].values())
    assert ready["fake_whatsapp_url"] is None
    assert stat.S_IMODE(up.ready_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((up.data_dir / "secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_with_exit_code_zero(up: Up, number: signal.Signals) -> None:
    up.start()
    sockets = Path(up.ready()["redis_url"].removeprefix("unix://")).parent

    status = up.stop(number)

    assert status == 0, up.output
    assert processes_of(up.folder) == set()
    assert not sockets.exists()


def test_a_signal_in_the_middle_of_the_start_is_heeded(up: Up) -> None:
    up.start()
    until((up.data_dir / "postgres").exists)

    status = up.stop()

    assert status == 0, up.output
    assert processes_of(up.folder) == set()


def test_the_supervisor_is_single_threaded_so_that_its_death_is_told_once(up: Up) -> None:
    up.start()

    pid = up.ready()["pids"]["supervisor"]

    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


def test_a_killed_supervisor_leaves_no_process_and_the_next_start_finds_its_data(up: Up) -> None:
    up.start()
    first = up.ready()
    _execute(first["database_url"], "CREATE TABLE kept AS SELECT 1")

    up.stop(signal.SIGKILL)

    until(lambda: processes_of(up.folder) == set(), lambda: f"left: {processes_of(up.folder)}")
    up.start()
    second = up.ready()
    _execute(second["database_url"], "INSERT INTO kept VALUES (2)")
    assert second["api_key"] == first["api_key"]
    assert up.stop() == 0


def test_every_part_that_dies_comes_back_under_a_new_pid(up: Up) -> None:
    up.start()
    old = up.ready()["pids"]
    mortal = set(old) - {"supervisor"}

    for name in mortal:
        os.kill(old[name], signal.SIGKILL)

    def replaced() -> dict[str, int] | None:
        now: dict[str, int] = json.loads(up.ready_file.read_bytes())["pids"]
        return now if all(now.get(name, old[name]) != old[name] for name in mortal) else None

    pids = until(replaced, lambda: up.output)
    assert set(pids) == set(old)
    assert all(is_alive(pid) for pid in pids.values())
    assert up.stop() == 0


def test_a_part_that_never_gets_ready_stops_everything_and_says_why(up: Up) -> None:
    (up.folder / "session_host" / "__main__.py").write_text("raise SystemExit('there is no phone here')")
    process = up.start()

    status = process.wait(DEADLINE_S)

    assert status == 1
    assert up.output.count("session-host ended with 1; starting it again") == 4
    assert "session-host ended with 1, the 5th time before it ever got ready" in up.output
    assert "there is no phone here" in up.output.split("5th time")[1]
    assert not up.ready_file.exists()
    assert processes_of(up.folder) == set()


def test_a_second_start_on_the_same_data_is_refused(up: Up) -> None:
    process = up.start()
    up.ready()

    second = _run(up, "up", "--data-dir", str(up.data_dir))

    assert second.returncode == 1
    assert f"already runs on {up.data_dir} (process {process.pid})" in second.stderr
    assert process.poll() is None


def test_a_taken_port_that_was_asked_for_is_refused(up: Up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]

        done = _run(up, "up", "--data-dir", str(up.data_dir), "--port", str(number))

    assert done.returncode == 1
    assert f"Port {number} on 127.0.0.1 is taken" in done.stderr


def test_a_ready_file_without_a_folder_is_refused(up: Up) -> None:
    done = _run(up, "up", "--data-dir", str(up.data_dir), "--ready-file", str(up.folder / "nowhere" / "ready.json"))

    assert done.returncode == 1
    assert "make its folder first" in done.stderr


def test_a_folder_in_the_place_of_a_file_is_refused_in_one_line(up: Up) -> None:
    for arguments in (("--ready-file", str(up.folder)), ("--data-dir", str(up.folder / "output"))):
        (up.folder / "output").touch()
        done = _run(up, "up", "--data-dir", str(up.data_dir), *arguments)

        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert arguments[1] in done.stderr


def test_pids_that_a_full_disk_does_not_take_are_written_down_later(up: Up) -> None:
    up.start()
    scheduler = up.ready()["pids"]["scheduler"]
    # It stands for a full disk: the data folder's own copy of the ready file cannot be written.
    (up.data_dir / "up.json").unlink()
    (up.data_dir / "up.json").mkdir()

    os.kill(scheduler, signal.SIGKILL)
    until(lambda: "cannot be written down yet" in up.output, lambda: up.output)
    (up.data_dir / "up.json").rmdir()

    until(lambda: up.ready()["pids"]["scheduler"] != scheduler, lambda: up.output)
    assert up.output.count("cannot be written down yet") == 1
    assert up.stop() == 0


def test_a_start_takes_away_what_an_earlier_one_said(up: Up) -> None:
    said = up.folder / "said.json"
    said.write_text("earlier")
    up.start("--ready-file", str(said))
    # Made after the claim, and long before all is ready.
    until((up.data_dir / "sockets").exists, lambda: up.output)

    assert not said.exists() or "api_url" in said.read_text()
    assert up.stop() == 0


def test_an_error_of_the_supervisor_still_stops_the_parts_in_order(up: Up) -> None:
    up.start()
    up.ready()
    # Nobody announces himself by a folder.
    (up.data_dir / "run" / "nobody.json").mkdir()

    assert up.process is not None
    assert up.process.wait(DEADLINE_S) == 1
    assert "zaphub | stopping" in up.output
    assert processes_of(up.folder) == set()


def test_an_external_database_wants_its_keys(up: Up) -> None:
    up.environment["ZAPHUB_DATABASE_URL"] = "postgresql://elsewhere.invalid/zaphub"

    done = _run(up, "up", "--data-dir", str(up.data_dir))

    assert done.returncode == 1
    assert "ZAPHUB_ADMIN_KEY and ZAPHUB_SECRET_KEY must be given" in done.stderr


def test_a_database_that_is_not_there_is_told_in_one_line(up: Up, empty_database_url: str) -> None:
    up.environment |= {
        "ZAPHUB_DATABASE_URL": empty_database_url.replace("?", "_that_nobody_made?"),
        "ZAPHUB_SECRET_KEY": "a-secret-key-of-mine",
    }

    for command in ("migrate", "keys list", "backup"):
        done = _run(up, *command.split())

        assert done.returncode == 1
        assert "Postgres refuses ZAPHUB_DATABASE_URL" in done.stderr
        assert done.stderr.count("\n") == 1


def test_external_servers_are_used_and_not_started(up: Up, empty_database_url: str, redis_url: str) -> None:
    up.environment |= {
        "ZAPHUB_DATABASE_URL": empty_database_url,
        "ZAPHUB_REDIS_URL": redis_url,
        "ZAPHUB_ADMIN_KEY": "an-admin-key-of-mine",
        "ZAPHUB_SECRET_KEY": "a-secret-key-of-mine",
    }
    up.start()

    ready = up.ready()

    assert set(ready["pids"]) == _PARTS - {"postgres", "valkey", "worker-2"}
    assert (ready["database_url"], ready["redis_url"]) == (empty_database_url, redis_url)
    assert ready["api_key"] == "an-admin-key-of-mine"
    assert up.stop() == 0


def test_single_commands_join_the_running_servers(up: Up) -> None:
    up.start()
    # As a person or a script does, who looks at the terminal.
    until(lambda: "Ctrl-C stops everything" in up.output, lambda: up.output)
    here = ("--data-dir", str(up.data_dir))

    migrated = _run(up, "migrate", *here)
    made = _run(up, "keys", "create", "--name", "crm", "--scopes", "messages:write", *here)
    listed = _run(up, "keys", "list", *here)
    revoked = _run(up, "keys", "revoke", listed.stdout.split()[0], *here)
    health = _run(up, "doctor", *here)

    assert migrated.stdout == "nothing to apply\n"
    assert made.stdout.startswith("zh_")
    assert "messages:write  all connections  crm" in listed.stdout
    assert "revoked" in revoked.stdout
    assert "answers, and never evicts" in health.stdout
    assert health.returncode == 0, health.stdout


def test_a_single_command_without_servers_says_how_to_get_them(up: Up) -> None:
    done = _run(up, "worker", "--data-dir", str(up.data_dir))

    assert done.returncode == 1
    assert "Start ./zh up in another terminal, or set ZAPHUB_DATABASE_URL" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_needs_no_rights(up: Up) -> None:
    python = Path("/usr/bin/python3")
    if not python.exists() or python.resolve().name != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip("no python of this version that another user can run")
    for folder in up.folder.parents:
        # pytest's folders are closed to others.
        if folder.stat().st_mode & stat.S_IXOTH == 0:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    subprocess.run(["chown", "-R", "nobody", up.folder], check=True)
    up.environment |= {"HOME": str(up.folder)}
    # Another interpreter, which does not know the virtual environment of this one.
    up.packages.append(sysconfig.get_path("purelib"))
    up.start(python=str(python), user="nobody")

    ready = up.ready()

    owner = Path(f"/proc/{ready['pids']['postgres']}").stat().st_uid
    assert owner == up.folder.stat().st_uid
    assert up.stop() == 0
    assert processes_of(up.folder) == set()


def _execute(database_url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())
