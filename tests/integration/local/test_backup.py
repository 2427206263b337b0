"""`./zh backup` and `./zh restore` as commands: when they are ended, when they refuse, and on an older schema."""

# ruff: noqa: TID251 - a command is started as a user starts it

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from local.backup import archive, backup, restore
from local.data_dir import DataDir
from local.embedded.postgres import EmbeddedPostgres
from shared.db.migrate import migrate, migrations
from shared.domain.errors import Misconfigured
from tests.integration.local.running_up import CHECKOUT, DEADLINE_S, processes_of, until

SECRET = "s" * 32
# The first schema that has what a backup counts.
OLD = 20


def _nothing(_count: int) -> None:
    pass


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Point the commands of this process at a database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", SECRET)
    monkeypatch.setenv("ZAPHUB_ADMIN_KEY", "a" * 32)
    return lambda url: monkeypatch.setenv("ZAPHUB_DATABASE_URL", url)


@pytest.fixture
def another_database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a second database without any table."""
    asyncio.run(_execute(postgres_server.url(), "CREATE DATABASE another_database"))
    yield postgres_server.url("another_database")
    asyncio.run(_execute(postgres_server.url(), "DROP DATABASE another_database WITH (FORCE)"))


async def _execute(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A file that the check takes for a backup."""
    path = tmp_path / "whole.tar"
    counts = dict.fromkeys(("connections", "messages", "media_files", "waiting", "in_doubt"), 0)
    about = {"created_at": "now", "migration": migrations()[-1][0], **counts}
    with archive.writing(path, progress=_nothing, about=about) as writer:
        writer.add(archive.DATABASE, b"")
        writer.add(archive.SECRETS, b'{"secret_key": "%s"}' % SECRET.encode())
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_backup_that_a_signal_ends_leaves_no_file_and_no_process(
    tmp_path: Path, database_url: str, number: signal.Signals
) -> None:
    out = tmp_path / "backups"
    out.mkdir()
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        # pg_dump waits for it: the backup is in its middle for as long as this lasts.
        await connection.execute("LOCK TABLE messages")
        command = subprocess.Popen(  # noqa: ASYNC220 - nothing else waits for this loop
            [sys.executable, "-m", "local.cli", "backup", "--out", str(out)],
            cwd=CHECKOUT,
            env={
                "PATH": os.environ["PATH"],
                "ZAPHUB_DATABASE_URL": database_url,
                "ZAPHUB_SECRET_KEY": SECRET,
                "ZAPHUB_DATA_DIR": str(tmp_path / "data"),
            },
        )
        until(lambda: any(out.glob(".*/")))

        command.send_signal(number)

        assert command.wait(DEADLINE_S) == 128 + number
    await connection.close()
    assert list(out.iterdir()) == []
    assert processes_of(out) == set()


def test_a_restore_leaves_alone_what_another_has_begun_meanwhile(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataDir(tmp_path / "data")
    look = restore._refuse_used

    with folder.claimed():

        def then_an_up_begins(asked: DataDir) -> None:
            look(asked)
            folder.postgres.mkdir()

        monkeypatch.setattr(restore, "_refuse_used", then_an_up_begins)
        with pytest.raises(Misconfigured, match="already runs"):
            restore.main([str(whole), "--data-dir", str(folder.root)])

    assert folder.postgres.is_dir()


def test_a_restore_that_refuses_changes_nothing(
    tmp_path: Path, whole: Path, database_url: str, settings: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(database_url)

    with pytest.raises(Misconfigured, match="The database is not empty"):
        restore.main([str(whole), "--data-dir", str(tmp_path / "new")])
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "another" * 5)
    with pytest.raises(Misconfigured, match="ZAPHUB_SECRET_KEY is not that of the backup"):
        restore.main([str(whole), "--data-dir", str(tmp_path / "new")])
    monkeypatch.delenv("ZAPHUB_DATABASE_URL")
    (tmp_path / "home" / "media").mkdir(parents=True)
    with pytest.raises(Misconfigured, match="media is there"):
        restore.main([str(whole), "--data-dir", str(tmp_path / "home")])

    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["media"]


def test_a_backup_of_an_older_schema_comes_back_in_the_newest(
    tmp_path: Path,
    empty_database_url: str,
    another_database_url: str,
    settings: Callable[[str], None],
) -> None:
    asyncio.run(_older(empty_database_url))
    out = tmp_path / "backups"
    out.mkdir()

    settings(empty_database_url)
    assert backup.main(["--out", str(out), "--data-dir", str(tmp_path / "old")]) == 0
    [file] = out.iterdir()
    settings(another_database_url)
    assert restore.main([str(file), "--data-dir", str(tmp_path / "new")]) == 0

    assert asyncio.run(migrate(another_database_url)) == []
    assert asyncio.run(_is_sending_paused(another_database_url))


async def _older(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE schema_migrations (name text PRIMARY KEY, applied_at timestamptz)")
    for name, sql in migrations()[:OLD]:
        await connection.execute(sql)
        await connection.execute("INSERT INTO schema_migrations VALUES ($1, now())", name)
    await connection.close()


async def _is_sending_paused(database_url: str) -> bool:
    connection = await asyncpg.connect(database_url)
    paused = await connection.fetchval("SELECT paused FROM queues WHERE name = 'message:send'")
    await connection.close()
    return bool(paused)
