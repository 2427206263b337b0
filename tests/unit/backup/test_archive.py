"""A backup's file is whole or refused, and never leads out of the folder that it is unpacked into."""

import gzip
import io
import tarfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.backup import archive
from local.backup.archive import NotABackup
from local.backup.backup import add_media
from shared.domain.errors import Misconfigured

MEDIA = f"media/ab/{'ab' * 32}.{'0' * 16}"
JOURNAL = "journal/8a6c1f5e-0000-4000-8000-000000000001/host-1.000000001.jsonl"
CONTENTS = {archive.DATABASE: b"dump" * 1000, archive.SECRETS: b"{}", MEDIA: b"\x89PNG" * 9000, JOURNAL: b"line\n"}


def _nothing(_count: int) -> None:
    pass


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "backup.tar"
    with archive.writing(path, progress=_nothing, about={"created_at": "now"}) as writer:
        for name, content in CONTENTS.items():
            writer.add(name, content)
    return path


def test_what_was_written_is_read_again(made: Path, tmp_path: Path) -> None:
    backup = archive.checked(made, progress=_nothing)
    backup.unpack(lambda name: tmp_path / "out" / name, progress=_nothing)

    assert backup.manifest["created_at"] == "now"
    assert {name: (tmp_path / "out" / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert backup.read(archive.SECRETS) == b"{}"


def test_only_its_owner_can_read_it_and_it_is_never_written_over(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o600
    before = made.read_bytes()
    with (
        pytest.raises(Misconfigured, match="never written over"),
        archive.writing(made, progress=_nothing, about={}) as writer,
    ):
        writer.add(archive.SECRETS, b"{}")
    assert made.read_bytes() == before


def test_an_interrupted_backup_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        archive.writing(tmp_path / "backup.tar", progress=_nothing, about={}) as writer,
    ):
        writer.add_file(archive.DATABASE, tmp_path / "a dump that failed")
    assert list(tmp_path.iterdir()) == []


def test_of_two_backups_with_one_name_the_first_stays_whole_and_the_second_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"

    with ExitStack() as slow:
        slow.enter_context(archive.writing(path, progress=_nothing, about={})).add(archive.SECRETS, b"{}")
        with archive.writing(path, progress=_nothing, about={}) as quick:
            quick.add(archive.DATABASE, b"dump")
            quick.add(archive.SECRETS, b"{}")
        with pytest.raises(Misconfigured, match="never written over"):
            slow.close()

    assert archive.checked(path, progress=_nothing).read(archive.DATABASE) == b"dump"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_hard_links_takes_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with archive.writing(tmp_path / "backup.tar", progress=_nothing, about={}) as writer:
        writer.add(archive.DATABASE, b"dump")
        writer.add(archive.SECRETS, b"{}")

    assert list(tmp_path.iterdir()) == [tmp_path / "backup.tar"]


def test_what_is_no_message_s_file_stays_out_as_a_restore_would_refuse_it(tmp_path: Path) -> None:
    media = tmp_path / "media"
    for name in (MEDIA.removeprefix("media/"), "ab/.nfs0000000000000001", "incoming/upload.part"):
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(b"\x89PNG")

    path = tmp_path / "backup.tar"
    with archive.writing(path, progress=_nothing, about={}) as writer:
        writer.add(archive.DATABASE, b"dump")
        writer.add(archive.SECRETS, b"{}")
        assert add_media(writer, media) == 1

    assert set(archive.checked(path, progress=_nothing).manifest["files"]) == {archive.DATABASE, archive.SECRETS, MEDIA}


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 0.7])
def test_a_cut_file_is_refused(made: Path, keep: float) -> None:
    content = made.read_bytes()
    end = content.rindex(b"}")  # of the manifest; what follows is the format's padding
    made.write_bytes(content[: int(end * keep)])

    with pytest.raises(NotABackup):
        archive.checked(made, progress=_nothing)


def test_every_flipped_byte_of_a_member_is_seen(made: Path) -> None:
    content = bytearray(made.read_bytes())
    place = content.index(b"\x89PNG") + 7
    content[place] ^= 1
    made.write_bytes(content)

    with pytest.raises(NotABackup, match="damaged"):
        archive.checked(made, progress=_nothing)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "media/../../evil", "journal/a/../../b.jsonl", "postgres/PG_VERSION"]
)
def test_a_name_that_no_backup_has_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))

    with pytest.raises(NotABackup, match="which no backup of ZapHub has"):
        archive.checked(path, progress=_nothing)


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(archive.SECRETS)
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(info)

    with pytest.raises(NotABackup):
        archive.checked(path, progress=_nothing)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "backup.tar"
    path.write_bytes(content)

    with pytest.raises(NotABackup, match=r"^[^\n]+$"):
        archive.checked(path, progress=_nothing)


def test_a_compressed_backup_is_refused_with_what_to_do(made: Path) -> None:
    made.write_bytes(gzip.compress(made.read_bytes()))

    with pytest.raises(NotABackup, match="encrypted or compressed"):
        archive.checked(made, progress=_nothing)


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_befalls_a_file_it_is_whole_or_refused(made: Path, data: st.DataObject) -> None:
    whole = made.read_bytes()
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    path = made.with_name("damaged.tar")
    path.write_bytes(damaged[: data.draw(st.integers(0, len(whole)))])

    with suppress(NotABackup):
        backup = archive.checked(path, progress=_nothing)
        assert {name: backup.read(name) for name in CONTENTS} == CONTENTS


def test_a_newer_format_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backup.tar"
    monkeypatch.setattr(archive, "FORMAT", 2)
    with archive.writing(path, progress=_nothing, about={}) as writer:
        writer.add(archive.DATABASE, b"")
        writer.add(archive.SECRETS, b"{}")
    monkeypatch.setattr(archive, "FORMAT", 1)

    with pytest.raises(NotABackup, match="Run the newer version"):
        archive.checked(path, progress=_nothing)
