"""`./zh keys`: API keys from the shell, through the same repository as the API's own calls."""

import argparse
import asyncio
import sys
from typing import Final
from uuid import UUID

from local.one_part import joined_environment
from shared.db import api_keys
from shared.db.api_keys import ApiKey, Scope
from shared.db.pool import Connection, connect
from shared.domain.errors import InvalidInput
from shared.domain.ids import DEFAULT_TENANT, ConnectionId

_LONGEST_NAME: Final = 100


def keys(options: argparse.Namespace) -> int:
    """Make, list or revoke API keys, and return the exit code. Raises InvalidInput for a wrong name, scope or id."""
    if options.action == "create":
        _refuse_useless(options)
    environment = joined_environment(options.data_dir)
    return asyncio.run(_on(environment["ZAPHUB_DATABASE_URL"], options))


def _refuse_useless(options: argparse.Namespace) -> None:
    """What the API refuses too."""
    if not 1 <= len(options.name) <= _LONGEST_NAME:
        raise InvalidInput(f"A key's name has 1 to {_LONGEST_NAME} characters.")
    if not _split(options.scopes):
        raise InvalidInput(f"A key needs a scope. Scopes: {', '.join(Scope)}")
    if options.connections is not None and not _split(options.connections):
        raise InvalidInput("--connections names at least one connection; leave it out for all.")


async def _on(database_url: str, options: argparse.Namespace) -> int:
    async with connect(database_url) as connection, connection.transaction():
        match options.action:
            case "create":
                await _create(connection, options)
            case "list":
                await _list(connection)
            case _:
                revoked = await api_keys.revoke(connection, _uuid(options.id), tenant_id=DEFAULT_TENANT)
                sys.stdout.write(f"revoked {revoked.id} ({revoked.name})\n")
    return 0


async def _create(connection: Connection, options: argparse.Namespace) -> None:
    allowed = None if options.connections is None else [ConnectionId(_uuid(one)) for one in _split(options.connections)]
    made, key = await api_keys.create(
        connection,
        tenant_id=DEFAULT_TENANT,
        name=options.name,
        scopes=[_scope(one) for one in _split(options.scopes)],
        connection_ids=allowed,
    )
    # The key alone on standard output, so that a script can take it; it cannot be shown again.
    sys.stderr.write(f"made {made.id} ({made.name}); its key, shown this once:\n")
    sys.stdout.write(f"{key}\n")


async def _list(connection: Connection) -> None:
    after = None
    while found := await api_keys.list_keys(connection, tenant_id=DEFAULT_TENANT, after=after):
        sys.stdout.write("".join(f"{_line(each)}\n" for each in found))
        after = (found[-1].created_at, found[-1].id)


def _line(key: ApiKey) -> str:
    state = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "valid"
    reach = "all connections" if key.connection_ids is None else f"{len(key.connection_ids)} connections"
    return f"{key.id}  {key.hint}…  {state:<16}  {','.join(key.scopes)}  {reach}  {key.name}"


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _scope(name: str) -> Scope:
    try:
        return Scope(name)
    except ValueError:
        raise InvalidInput(f"There is no scope {name}. Scopes: {', '.join(Scope)}") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"{text} is not an id; ./zh keys list shows them.") from None
