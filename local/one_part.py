"""One part alone, and `./zh migrate`: on the configured servers, or on those of a running `./zh up`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from local import part, sqs_address
from local.data_dir import DataDir
from local.environment import for_children, is_set, local_settings, settings_with
from shared.domain.errors import Misconfigured


def run_part(name: str, arguments: list[str], *, data_dir: Path | None) -> int:
    """Become the part; never returns. Raises Misconfigured when no database is configured or running."""
    if {"-h", "--help"} & set(arguments):
        _explain_part(name)
    environment = joined_environment(data_dir)
    settings, with_fake = local_settings(), "ZAPHUB_FAKE_WHATSAPP_URL" in environment
    if name == "session-host" and with_fake:
        environment = part.with_room_for_ca(environment)
    commands = {
        "api": part.api_command(host=settings.host, port=settings.port),
        "worker": part.worker_command(),
        "scheduler": part.scheduler_command(),
        "session-host": part.session_host_command(with_fake=with_fake),
    }
    command = [*commands[name], *arguments]
    os.execve(command[0], command, environment)  # noqa: S606 - our own programs


def _explain_part(name: str) -> NoReturn:
    """Become the part's program, which says its options, and needs neither settings nor a database for that."""
    commands = {
        "api": part.api_command(host="127.0.0.1", port=0),
        "worker": part.worker_command(),
        "scheduler": part.scheduler_command(),
        "session-host": part.session_host_command(with_fake=False),
    }
    sys.stdout.write(
        f"./zh {name} [--data-dir D] …: this part alone, on ZAPHUB_DATABASE_URL or on a running ./zh up. "
        "Options of its program:\n\n"
    )
    sys.stdout.flush()
    command = [*commands[name], "--help"]
    os.execv(command[0], command)  # noqa: S606 - our own programs


def migrate(*, data_dir: Path | None) -> int:
    """Apply the migrations that are missing and name them."""
    from shared.db.migrate import migrate as apply  # noqa: PLC0415 - loads asyncpg

    applied = asyncio.run(apply(joined_environment(data_dir)["ZAPHUB_DATABASE_URL"]))
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to apply\n")
    return 0


def joined_environment(data_dir: Path | None) -> dict[str, str]:
    """Return the environment for a part: ours, with the servers and secrets of a running `up` where nothing is set.

    Raises Misconfigured when there is no database either way.
    """
    if is_set("database_url"):
        settings = settings_with({})
        return for_children({"database_url": settings.database_url})
    folder = found_data_dir(data_dir)
    if not folder.is_claimed() or not folder.ready_file.exists():
        msg = (
            f"No database: ZAPHUB_DATABASE_URL is not set, and no ./zh up runs on {folder.root}. "
            "Start ./zh up in another terminal, or set ZAPHUB_DATABASE_URL, ZAPHUB_REDIS_URL and ZAPHUB_SECRET_KEY."
        )
        raise Misconfigured(msg)
    running: dict[str, Any] = json.loads(folder.ready_file.read_bytes())
    fallbacks = {
        **folder.secrets(),
        "database_url": running["database_url"],
        "redis_url": running["redis_url"],
        "transport": running["transport"],
        "sqs_queue_urls": json.dumps(running["sqs_queue_urls"]),
        "data_dir": str(folder.root),
    }
    if running["fake_whatsapp_url"] is not None:
        fallbacks["fake_whatsapp_url"] = running["fake_whatsapp_url"]
    credentials = sqs_address.CREDENTIALS if sqs_address.is_here(running["sqs_queue_urls"]) else {}
    return {**for_children({name: value for name, value in fallbacks.items() if not is_set(name)}), **credentials}


def found_data_dir(asked: Path | None) -> DataDir:
    """Return the data folder asked for, else the one in the settings, else `.zaphub` in the checkout."""
    if asked is not None:
        return DataDir(asked.resolve())
    return DataDir(local_settings().data_dir.resolve())
