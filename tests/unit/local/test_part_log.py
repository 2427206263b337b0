"""A part's output: whole lines, the last ones kept, a file that never grows without end."""

from pathlib import Path

import pytest

from local import part_log
from local.part_log import PartLog


def test_lines_are_passed_on_whole_however_they_come(tmp_path: Path) -> None:
    shown: list[str] = []
    log = PartLog(tmp_path / "api.log", show=shown.append)

    for piece in (b"fir", b"st\nsec", b"ond\r\n", "dé".encode()[:2], "dé".encode()[2:]):
        log.feed(piece)
    log.close()

    assert shown == ["first", "second", "dé"]
    assert list(log.last_lines) == shown
    assert (tmp_path / "api.log").read_bytes() == "first\nsecond\r\ndé".encode()


def test_the_file_gives_way_to_a_new_one_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_log, "_MOST_BYTES", 10)
    log = PartLog(tmp_path / "api.log", show=None)

    for number in range(4):
        log.feed(b"line number %d\n" % number)
    log.close()

    assert (tmp_path / "api.log").read_bytes() == b"line number 3\n"
    assert (tmp_path / "api.log.1").read_bytes() == b"line number 2\n"


def test_only_the_last_lines_are_kept_in_memory(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "api.log", show=None)

    log.feed(b"".join(b"%d\n" % number for number in range(1000)))
    log.close()

    assert list(log.last_lines)[-1] == "999"
    assert len(log.last_lines) == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_keeps_no_line_from_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "api.log").symlink_to("/dev/full")
    shown: list[str] = []
    log = PartLog(tmp_path / "api.log", show=shown.append)

    log.feed(b"first\n")
    log.feed(b"second")
    log.close()

    assert shown == ["first", "second"]
