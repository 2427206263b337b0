"""Apply the migrations in order, each once, however many processes start at the same moment.

`python -m shared.db.migrate` does it to the database of the settings, as in a container without a checkout.
"""

import asyncio
import sys
from importlib.resources import files

from shared.db.pool import connect
from shared.domain.errors import Misconfigured, ZapHubError
from shared.settings import load

# Any number, the same in every version: whoever holds it migrates, the others wait and find nothing to do.
_LOCK_KEY = 0x5A415048  # "ZAPH"
_LOCK_TIMEOUT = "5s"  # a migration that waits longer for a table blocks everybody behind it


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) of each migration, in the order they apply."""
    folder = files("shared.db") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(name.removesuffix(".sql"), (folder / name).read_text(encoding="utf-8")) for name in names]


async def migrate(database_url: str) -> list[str]:
    """Bring the schema up to date and return the names of what was applied; running it again applies nothing.

    Each migration is one transaction, so a failing one leaves the schema as the one before it. Raises Unavailable when
    Postgres does not answer, and Misconfigured when the database has a migration that this version does not know.
    """
    known = migrations()
    applied_now: list[str] = []
    async with connect(database_url) as connection, connection.transaction():
        # A transaction's lock, not a session's, so that it also holds through a transaction pooler.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(name text CONSTRAINT schema_migrations_pk PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
        if unknown := done - {name for name, _ in known}:
            raise Misconfigured(
                f"the database has migrations that this version does not know: {', '.join(sorted(unknown))}. "
                "Run the newer version, or restore a backup."
            )
        for name, sql in known:
            if name not in done:
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_migrations (name) VALUES ($1)", name)
                applied_now.append(name)
    return applied_now


def main() -> int:
    """Migrate the database of ZAPHUB_DATABASE_URL and return the exit code."""
    try:
        applied = asyncio.run(migrate(load().database_url))
    except ZapHubError as error:
        sys.stderr.write(f"migrate: {error.detail}\n")
        return 1
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to apply\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
