"""`./zh restore`: a ZapHub from its backup, in an empty data folder or database, with every session still linked."""

import argparse
import asyncio
import hmac
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from local.backup import archive, database
from local.backup.archive import NotABackup
from local.backup.backup import SECRETS, served
from local.backup.database import Shown
from local.data_dir import DataDir, replace_file
from local.embedded.unprivileged import kept_elsewhere
from local.environment import is_set, settings_with
from local.interruption import unwinding
from local.one_part import found_data_dir
from shared.db import restored
from shared.db.migrate import migrate, migrations
from shared.db.pool import connect
from shared.db.restored import Server
from shared.domain.errors import Misconfigured
from shared.domain.jobs import QueueName

# What a restore makes, and takes away again when it fails.
_DUMP: Final = f".{archive.DATABASE}"
_OURS: Final = ("postgres", "media", "journal", "logs", "secrets.json", "sockets", _DUMP)
# Of the manifest.
_TOLD: Final = frozenset({"created_at", "migration", "connections", "messages", "media_files", "waiting", "in_doubt"})


def main(arguments: Sequence[str]) -> int:
    """Restore and return the exit code. Raises Misconfigured, and then nothing was changed."""
    options = _parser().parse_args(arguments)
    shown = Shown("check")
    backup = archive.checked(options.file.resolve(), progress=shown)
    shown.end()
    manifest = backup.manifest
    if missing := _TOLD - manifest.keys():
        raise NotABackup(f"The manifest of {options.file} does not say {', '.join(sorted(missing))}.")
    _refuse_newer(backup)
    sys.stderr.write(
        f"{options.file} is whole: taken {manifest['created_at']}, {manifest['connections']} connections, "
        f"{manifest['messages']} messages, {manifest['media_files']} files.\n"
    )
    if options.check:
        return 0
    folder = found_data_dir(options.data_dir)
    try:
        with unwinding(), _target(folder, backup) as database_url:
            asyncio.run(_fill(database_url, folder, backup, sends=options.resume_sends))
    except OSError as error:
        left = "Drop its database and begin again" if is_set("database_url") else "Nothing of it was left behind"
        raise Misconfigured(f"The backup could not be restored: {error}. {left}.") from error
    _tell(manifest, folder, sends=options.resume_sends)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zh restore",
        allow_abbrev=False,
        description="Bring a ZapHub back from a backup, into an empty data folder, or into the empty database of "
        "ZAPHUB_DATABASE_URL. Sending is paused afterwards: what waited when the backup was made may have been sent "
        "since. Stop the old one first: WhatsApp knows each device once.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what ./zh backup wrote")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="an empty or new folder; .zaphub here unless set")
    parser.add_argument("--check", action="store_true", help="read the whole file, say whether it is whole, and end")
    parser.add_argument(
        "--resume-sends",
        action="store_true",
        help="go on sending at once: only when nothing was sent since the backup, as after a move to another machine",
    )
    return parser


def _refuse_newer(backup: archive.Backup) -> None:
    known = {name for name, _ in migrations()}
    if backup.manifest["migration"] not in known:
        raise Misconfigured(
            f"The backup comes from a newer ZapHub (its schema is at {backup.manifest['migration']}). Restore it with "
            "that version. Nothing was changed."
        )


@contextmanager
def _target(folder: DataDir, backup: archive.Backup) -> Iterator[str]:
    """The empty database to fill; when the block fails, the data folder is as empty as before."""
    secrets = _secrets(backup)
    configured = _configured_database(secrets["secret_key"]) if is_set("database_url") else None
    # Without a claim, which would leave its lock file in a folder that is none of ours.
    _refuse_used(folder)
    with folder.claimed():
        # Again: an `up` may have begun and ended since.
        _refuse_used(folder)
        with _taken_back(folder):
            if configured is not None:
                yield configured
                return
            with served(folder) as url:
                yield url
                # Last: a folder with a database and without them is an unfinished restore, and `up` refuses it.
                replace_file(folder.secrets_file, json.dumps(secrets, indent=2) + "\n")


def _refuse_used(folder: DataDir) -> None:
    found = [name for name in _OURS if (folder.root / name).exists()]
    if there := kept_elsewhere(folder.postgres):
        found.append(str(there))
    if found:
        raise Misconfigured(
            f"{folder.root} is not empty ({found[0]} is there), and a restore never writes over anything. "
            "Choose a new folder with --data-dir. Nothing was changed."
        )


@contextmanager
def _taken_back(folder: DataDir) -> Iterator[None]:
    """Remove what the block made when it fails. Only for who has claimed the folder and seen that it was empty."""
    try:
        yield
    except BaseException:
        for name in _OURS:
            path = folder.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if there := kept_elsewhere(folder.postgres):
            shutil.rmtree(there)
        raise


def _configured_database(secret_key: str) -> str:
    settings = settings_with({})
    if not hmac.compare_digest(settings.secret_key.get_secret_value(), secret_key):
        raise Misconfigured(
            "ZAPHUB_SECRET_KEY is not that of the backup, so none of its secrets would open. It is in "
            f"{archive.SECRETS} of the backup: tar -xOf FILE {archive.SECRETS}. Nothing was changed."
        )
    asyncio.run(_empty_server(settings.database_url))
    return settings.database_url


async def _empty_server(database_url: str) -> Server:
    async with connect(database_url) as connection:
        server = await restored.server(connection)
    if not server.is_empty:
        raise Misconfigured(
            "The database is not empty, and a restore never writes over anything. Make a new one (CREATE DATABASE) and "
            "name it in ZAPHUB_DATABASE_URL. Nothing was changed."
        )
    return server


def _secrets(backup: archive.Backup) -> dict[str, str]:
    try:
        kept = json.loads(backup.read(archive.SECRETS))
        found = {name: str(kept[name]) for name in SECRETS if name in kept}
    except (ValueError, TypeError):
        found = {}
    if "secret_key" not in found:
        raise NotABackup(f"{archive.SECRETS} of {backup.path} cannot be read. Nothing was changed.")
    return found


async def _fill(database_url: str, folder: DataDir, backup: archive.Backup, *, sends: bool) -> None:
    server = await _empty_server(database_url)
    shown = Shown("restore")
    dump = folder.root / _DUMP
    try:
        backup.unpack(lambda name: _place(folder, name, dump), progress=shown)
        database.load(database_url, dump, server_major=server.major, progress=shown)
    finally:
        shown.end()
        dump.unlink(missing_ok=True)
    _name_owners(folder.root / "journal")
    # Before the rest, which is written for the newest schema.
    await migrate(database_url)
    # Queues and pauses are the ledger's business; loaded here, as it takes the time of all the rest.
    from shared.queues.admin import pause_queue  # noqa: PLC0415

    async with connect(database_url) as connection, connection.transaction():
        await restored.settle(connection)
        if not sends:
            await pause_queue(connection, QueueName.MESSAGE_SEND)


def _place(folder: DataDir, name: str, dump: Path) -> Path | None:
    if name == archive.DATABASE:
        return dump
    return folder.root / name if name.startswith(("media/", "journal/")) else None


def _name_owners(journal: Path) -> None:
    """Let the next host find what the hosts of then left: it looks for files of dead owners."""
    for path in journal.glob("*/*.jsonl"):
        if path.parent.name != "rejected":
            owners = journal / "owners"
            owners.mkdir(mode=0o700, exist_ok=True)
            (owners / path.name.split(".")[0]).touch(mode=0o600)


def _tell(manifest: dict[str, Any], folder: DataDir, *, sends: bool) -> None:
    where = "the database of ZAPHUB_DATABASE_URL" if is_set("database_url") else str(folder.root)
    sys.stdout.write(f"restored into {where}\n")
    sys.stderr.write("Stop the ZapHub that it was taken from before you start this one.\n")
    if not sends:
        sys.stderr.write(
            f"Sending is paused (queue message:send): {manifest['waiting']} messages waited then, and may have been "
            "sent since.\nCancel what must not go (POST /messages/cancel), then go on: "
            "POST /queues/message:send/resume.\n"
        )
    if manifest["in_doubt"]:
        sys.stderr.write(f"{manifest['in_doubt']} messages were on their way and are in doubt: docs/reliability.md.\n")
