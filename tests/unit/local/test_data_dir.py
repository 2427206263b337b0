"""The data folder: one user at a time, secrets for its owner only."""

import os
import stat
from pathlib import Path

import pytest

from local.data_dir import DataDir, replace_file
from shared.domain.errors import Misconfigured


@pytest.fixture
def folder(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_claimed_folder_cannot_be_claimed_again(folder: DataDir) -> None:
    with folder.claimed():
        assert folder.is_claimed()
        with pytest.raises(Misconfigured, match=r"already runs on .* --data-dir"), folder.claimed():
            pass

    assert not folder.is_claimed()
    with folder.claimed():
        pass


def test_secrets_are_made_once_and_shown_to_their_owner_only(folder: DataDir) -> None:
    with folder.claimed():
        first = folder.secrets()
        second = folder.secrets()

    assert first == second
    assert set(first) == {"admin_key", "secret_key", "host_token"}
    assert len(set(first.values())) == 3
    assert all(len(value) >= 32 for value in first.values())
    assert _mode(folder.root) == 0o700
    assert _mode(folder.secrets_file) == 0o600


def test_sockets_that_a_killed_holder_left_are_removed(folder: DataDir) -> None:
    folder.root.mkdir()
    with folder.sockets() as left:
        note = (folder.root / "sockets").read_text()
    left.mkdir()
    (folder.root / "sockets").write_text(note)

    with folder.sockets() as sockets:
        assert not left.exists()
        # Root lets the account through that Postgres runs as.
        assert _mode(sockets) == (0o711 if os.geteuid() == 0 else 0o700)
        # The longest name that Postgres makes in it must fit into a socket's address.
        assert len(str(sockets / "postgres" / ".s.PGSQL.5432")) < 104

    assert not sockets.exists()


def test_a_temporary_folder_with_a_long_name_is_too_long_for_sockets(
    folder: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.root.mkdir()
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))

    with folder.sockets() as sockets:
        assert len(str(sockets / "postgres" / ".s.PGSQL.5432")) < 104


def test_a_note_that_names_another_folder_removes_nothing(folder: DataDir, tmp_path: Path) -> None:
    folder.root.mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (folder.root / "sockets").write_text(str(precious))

    with folder.sockets():
        pass

    assert precious.exists()


def test_a_replaced_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("old")
    path.chmod(0o644)

    replace_file(path, "new")

    assert path.read_text() == "new"
    assert _mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
