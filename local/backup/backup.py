"""`./zh backup`: one file with all that a ZapHub needs to come back, taken while it runs or while it does not."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from local.backup import archive, database
from local.backup.database import Shown
from local.data_dir import DataDir
from local.embedded import postgres
from local.embedded.serving import serving
from local.environment import is_set, settings_with
from local.interruption import unwinding
from local.one_part import found_data_dir, joined_environment
from shared.db import restored
from shared.db.pool import connect
from shared.domain.errors import Misconfigured
from shared.settings import Settings

SECRETS: Final = ("secret_key", "admin_key", "host_token")


@dataclass(frozen=True, slots=True)
class _Source:
    """What is backed up; `is_running` when others may use it meanwhile."""

    database_url: str
    settings: Settings
    folder: DataDir
    is_running: bool


def main(arguments: Sequence[str]) -> int:
    """Take a backup and return the exit code. Raises Misconfigured when there is nothing to back up or no room."""
    options = _parser().parse_args(arguments)
    now = datetime.now(UTC)
    out: Path = (options.out or Path()).resolve()
    if out.is_dir():
        out /= f"zaphub-backup-{now:%Y%m%dT%H%M%SZ}.tar"
    if not out.parent.is_dir():
        raise Misconfigured(f"The folder {out.parent} does not exist. Make it, or choose another with --out.")
    try:
        # Half a backup holds the keys of every session: none stays, whoever ends this.
        with unwinding(), _source(options.data_dir) as source:
            about = _take(source, out, now=now)
    except OSError as error:
        raise Misconfigured(f"The backup could not be written: {error}. Nothing was left behind.") from error
    kept = f"{about['connections']} connections, {about['messages']} messages, {about['media_files']} files"
    sys.stdout.write(f"{out}  {out.stat().st_size / 1e6:,.1f} MB: {kept}\n")
    if about["media_store"] != "files":
        sys.stderr.write(f"The files of messages lie in {about['media_store']} and are not in it.\n")
    sys.stderr.write("It holds the keys of every session and every secret: keep it as you keep passwords.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zh backup",
        allow_abbrev=False,
        description="Write everything that a ZapHub needs to come back without a QR code into one file: the database "
        "with the sessions' keys, the files of messages, what came in and was not stored yet, and the secrets. It may "
        "go on running meanwhile.",
    )
    parser.add_argument("--data-dir", type=Path, metavar="D", help="the data folder; .zaphub here unless set")
    parser.add_argument(
        "--out", type=Path, metavar="F", help="the file, or its folder; zaphub-backup-TIME.tar here unless given"
    )
    return parser


@contextmanager
def _source(asked: Path | None) -> Iterator[_Source]:
    folder = found_data_dir(asked)
    if is_set("database_url"):
        settings = settings_with({"data_dir": str(folder.root)})
        yield _Source(settings.database_url, settings, folder, is_running=True)
    elif folder.is_claimed():
        url = joined_environment(asked)["ZAPHUB_DATABASE_URL"]
        settings = settings_with({**folder.secrets(), "database_url": url, "data_dir": str(folder.root)})
        yield _Source(url, settings, folder, is_running=True)
    else:
        if not folder.postgres.is_dir() or not folder.secrets_file.exists():
            msg = f"There is no ZapHub in {folder.root}. Name its folder with --data-dir, or set ZAPHUB_DATABASE_URL."
            raise Misconfigured(msg)
        with folder.claimed(), served(folder) as url:
            settings = settings_with({**folder.secrets(), "database_url": url, "data_dir": str(folder.root)})
            yield _Source(url, settings, folder, is_running=False)


@contextmanager
def served(folder: DataDir) -> Iterator[str]:
    """Serve the embedded Postgres of a folder that the caller has claimed, for the length of the block; its URL."""
    with ExitStack() as held:
        sockets = held.enter_context(folder.sockets()) / "postgres"
        sockets.mkdir(mode=0o700)
        folder.logs.mkdir(mode=0o700, exist_ok=True)
        server = postgres.prepare(folder.postgres, sockets=sockets)
        held.enter_context(serving(server, log=folder.logs / "postgres.log"))
        yield server.url()


def _take(source: _Source, out: Path, *, now: datetime) -> dict[str, Any]:
    server = asyncio.run(_server(source.database_url))
    if not server.is_ours:
        raise Misconfigured("The database holds no ZapHub: there is nothing to back up.")
    store = source.settings.media_store
    about: dict[str, Any] = {
        "created_at": now.isoformat(timespec="seconds"),
        "was_running": source.is_running,
        "media_store": store,
        "media_files": 0,
    }
    # The journal before the database: what is done with is in Postgres by then, and what comes after the snapshot is
    # after the backup. What is in both is stored once.
    journal = list(_journal(source.folder.root / "journal"))
    shown = Shown("backup")
    with (
        archive.writing(out, progress=shown, about=about) as writer,
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch,
    ):
        dump = Path(scratch) / archive.DATABASE
        database.dump(source.database_url, dump, server_major=server.major, progress=shown)
        about |= asyncio.run(_about(source.database_url))
        writer.add_file(archive.DATABASE, dump)
        writer.add(archive.SECRETS, json.dumps(_secrets(source.settings)).encode())
        for name, content in journal:
            writer.add(name, content)
        if store == "files":
            about["media_files"] = add_media(writer, source.folder.root / "media")
    shown.end()
    return about


def _secrets(settings: Settings) -> dict[str, str]:
    found = {name: getattr(settings, name) for name in SECRETS}
    return {name: secret.get_secret_value() for name, secret in found.items() if secret is not None}


def _journal(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each file as it is now; half a line at its end was never acknowledged, and the reader leaves it out."""
    for path in sorted(folder.glob("*/*.jsonl")):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            # Its last entry has just been stored.
            continue
        if content:
            yield f"journal/{path.parent.name}/{path.name}", content


def add_media(writer: archive.Writer, folder: Path) -> int:
    """Add every file of a message; how many there were."""
    count = 0
    for path in sorted(folder.glob("*/*")):
        name = f"media/{path.parent.name}/{path.name}"
        if not archive.is_member(name):
            # A file on its way in, or one of the file system's own: a restore would refuse it.
            continue
        try:
            writer.add_file(name, path)
        except FileNotFoundError:
            # Retention has just deleted it.
            continue
        count += 1
    return count


async def _server(database_url: str) -> restored.Server:
    async with connect(database_url) as connection:
        return await restored.server(connection)


async def _about(database_url: str) -> dict[str, Any]:
    async with connect(database_url) as connection:
        return await restored.about(connection)
