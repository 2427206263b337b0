"""The journal: on disk before it returns, read in order, replayed after a crash, one reader at a time."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
import structlog

from session_host import journal as journal_module
from session_host.journal import Batch, Journal, JournalFull
from session_host.reserve import RESERVE_BYTES
from shared.domain.errors import Misconfigured
from shared.domain.ids import ConnectionId, HostId

SHOP = ConnectionId(uuid4())
BAR = ConnectionId(uuid4())

# Appends what it is told to and dies without closing anything.
CRASHER = """
import os, signal, sys
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from session_host.journal import Journal
journal = Journal(Path(sys.argv[1]), "crashed")
for number in range(int(sys.argv[3])):
    journal.append(UUID(sys.argv[2]), {"n": number})
print("appended", flush=True)
sys.stdin.read() if len(sys.argv) > 4 else os.kill(os.getpid(), signal.SIGKILL)
"""


def drain(journal: Journal) -> list[int]:
    found = []
    while (batch := journal.batch(limit=3)) is not None:
        found += numbers(batch)
        journal.done(batch)
    return found


def numbers(batch: Batch) -> list[int]:
    return [entry["n"] for entry in batch.entries]


def test_entries_come_out_in_order_and_a_journal_that_is_done_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path, HostId("a"))
    for number in range(10):
        journal.append(SHOP, {"n": number})

    assert drain(journal) == list(range(10))
    assert journal.batch() is None
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.jsonl")) == 0
    journal.close()


def test_a_batch_that_was_not_done_is_read_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, HostId("a"))
    journal.append(SHOP, {"n": 1})

    first, second = journal.batch(), journal.batch()

    assert first == second
    journal.close()


def test_what_a_killed_process_appended_is_replayed_by_another_one_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path), str(SHOP), "7"], check=False)
    journal = Journal(tmp_path, HostId("b"))

    replayed = [number for batch in journal.orphans(limit=3) for number in numbers(batch)]

    assert replayed == list(range(7))
    assert list(journal.orphans()) == []
    assert not (tmp_path / "owners" / "crashed").exists()
    journal.close()


def test_a_replay_that_is_cut_off_begins_again(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path), str(SHOP), "7"], check=False)
    journal = Journal(tmp_path, HostId("b"))

    cut_off = journal.orphans(limit=3)
    assert numbers(next(cut_off)) == [0, 1, 2]
    cut_off.close()

    assert [number for batch in journal.orphans() for number in numbers(batch)] == list(range(7))
    journal.close()


def test_a_living_process_is_no_orphan(tmp_path: Path) -> None:
    living = subprocess.Popen(
        [sys.executable, "-c", CRASHER, str(tmp_path), str(SHOP), "2", "stay"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert living.stdout is not None
    assert living.stdin is not None
    living.stdout.readline()
    journal = Journal(tmp_path, HostId("b"))

    assert list(journal.orphans()) == []

    living.send_signal(signal.SIGKILL)
    living.wait()
    living.stdin.close()
    living.stdout.close()
    assert [number for batch in journal.orphans() for number in numbers(batch)] == [0, 1]
    journal.close()


def test_half_a_line_at_the_end_is_left_out_and_a_torn_one_in_between_does_not_hide_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path), str(SHOP), "3"], check=False)
    [path] = tmp_path.glob(f"{SHOP}/*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"00000000 garbage\n" + lines[2] + lines[1][:9])
    journal = Journal(tmp_path, HostId("b"))

    assert [number for batch in journal.orphans() for number in numbers(batch)] == [0, 2]
    journal.close()


def test_an_append_that_the_disk_refuses_raises_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, HostId("a"))
    journal.append(SHOP, {"n": 1})

    def refuse(_descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", refuse)
        with pytest.raises(OSError, match="no space"):
            journal.append(SHOP, {"n": 2})
    journal.append(SHOP, {"n": 3})

    assert drain(journal) == [1, 3]
    journal.close()


def test_a_reader_that_looks_while_a_file_begins_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Journal(tmp_path, HostId("a"))
    sync = journal_module._sync_folder

    def look_meanwhile(folder: Path) -> None:
        # The file is there, and nothing is in it.
        assert opened.batch() is None
        sync(folder)

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "_sync_folder", look_meanwhile)
        opened.append(SHOP, {"n": 1})

    assert drain(opened) == [1]
    opened.close()


class _Usage(NamedTuple):
    free: int


class FullDisk:
    """A disk without a free byte in the place of the real one: there is only the room that a journal lets go of."""

    def __init__(self, journals: Path, patched: pytest.MonkeyPatch) -> None:
        self._reserves = journals / "reserve"
        self._write = os.write
        patched.setattr(os, "write", self._refuse)
        patched.setattr(shutil, "disk_usage", lambda _: _Usage(free=0))

    def _refuse(self, descriptor: int, line: bytes) -> int:
        if list(self._reserves.iterdir()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, line)


def test_the_message_that_finds_the_disk_full_is_written_down_and_the_next_must_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, HostId("a"))
    journal.append(SHOP, {"n": 1})

    with monkeypatch.context() as patched:
        FullDisk(tmp_path, patched)
        for number in (2, 3):
            with pytest.raises(JournalFull):
                journal.append(SHOP, {"n": number})
        assert not journal.has_room()

    assert journal.has_room()
    journal.append(SHOP, {"n": 4})
    assert drain(journal) == [1, 2, 3, 4]
    journal.close()


def test_the_reserve_is_real_room_and_goes_with_its_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path, HostId("a"))
    reserve = tmp_path / "reserve" / "a"
    held = reserve.stat()
    journal.close()
    subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path), str(SHOP), "1"], check=False, stdout=subprocess.PIPE)
    left = [path.name for path in (tmp_path / "reserve").iterdir()]
    other = Journal(tmp_path, HostId("b"))
    replayed = [number for batch in other.orphans() for number in numbers(batch)]

    assert held.st_size == RESERVE_BYTES
    assert held.st_blocks * 512 >= RESERVE_BYTES, "a hole holds no room"
    assert left == ["crashed"]
    assert replayed == [0]
    assert [path.name for path in (tmp_path / "reserve").iterdir()] == ["b"]
    other.close()


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("not a folder")

    with pytest.raises(Misconfigured, match="journal cannot be written"):
        Journal(tmp_path / "journal", HostId("a"))


def test_a_disk_that_is_full_from_the_start_is_no_room_and_leaves_no_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: _Usage(free=RESERVE_BYTES))
        journal = Journal(tmp_path, HostId("a"))
        assert not journal.has_room()

    assert journal.has_room()
    journal.close()


def test_a_busy_connection_goes_on_in_a_new_file_and_the_old_one_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_host.journal._FILE_BYTES", 100)
    journal = Journal(tmp_path, HostId("a"))
    for number in range(30):
        journal.append(SHOP if number % 2 else BAR, {"n": number})

    assert len(list(tmp_path.glob("*/*.jsonl"))) > 4
    assert sorted(drain(journal)) == list(range(30))
    assert journal.batch() is None
    assert len(list(tmp_path.glob("*/*.jsonl"))) == 2
    journal.close()


def test_what_comes_while_a_batch_is_committed_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path, HostId("a"))
    journal.append(SHOP, {"n": 1})
    batch = journal.batch()
    assert batch is not None

    journal.append(SHOP, {"n": 2})
    journal.done(batch)

    assert drain(journal) == [2]
    journal.close()


def test_what_takes_the_place_of_an_append_that_failed_late_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, seen, sync = Journal(tmp_path, HostId("a")), [], os.fdatasync

    def fail_late(_: int) -> None:
        # The line is in the file, and the reader is quicker than the disk.
        seen.append(journal.batch())
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fdatasync", fail_late)
    with pytest.raises(OSError, match="quota"):
        journal.append(SHOP, {"n": 1})
    monkeypatch.setattr(os, "fdatasync", sync)
    for batch in seen:
        if batch is not None:
            journal.done(batch)
    journal.append(SHOP, {"n": 2})

    assert drain(journal) == [2]
    journal.close()


def test_a_file_of_broken_lines_alone_is_told_of_and_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path, HostId("a"))
    path = tmp_path / str(SHOP) / "a.000000001.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"00000000 {}\nno line at all\n")

    with structlog.testing.capture_logs() as told:
        assert drain(journal) == []

    assert [(one["event"], one["lines"]) for one in told] == [("journal_lines_broken", 2)]
    assert not path.exists()
    journal.close()
