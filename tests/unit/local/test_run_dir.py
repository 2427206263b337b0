"""Who is present, from files that other processes write."""

import os
import stat
from pathlib import Path

from local.run_dir import RunDir, is_alive
from shared.presence import announce


def test_what_an_earlier_run_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text('{"pid": 1}')

    run_dir = RunDir(tmp_path)

    assert run_dir.pids() == {}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_those_who_announce_themselves_are_present(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")

    announce(run_dir.folder, "worker-1")
    announce(run_dir.folder, "session-host-child-1")

    assert run_dir.pids() == {"worker-1": os.getpid(), "session-host-child-1": os.getpid()}


def test_a_file_that_is_not_whole_is_nobody(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    for number, text in enumerate(["", "{", "[]", '{"pid": "soon"}', '{"pid": null}', "7"]):
        (run_dir.folder / f"part-{number}.json").write_text(text)

    assert run_dir.pids() == {}


def test_a_part_that_ended_takes_its_children_with_it_and_nobody_else(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    for name in ("session-host", "session-host-child-1", "worker-1", "worker-11"):
        announce(run_dir.folder, name)

    run_dir.forget("session-host")
    run_dir.forget("worker-1")

    assert set(run_dir.pids()) == {"worker-11"}


def test_this_process_is_alive_and_no_process_has_the_greatest_pid() -> None:
    assert is_alive(os.getpid())
    assert not is_alive(2**22 + 1)
