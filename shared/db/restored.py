"""What a backup says about a database, and what a database needs that came back from one."""

from dataclasses import dataclass
from typing import Any, Final

from shared.db.pool import Connection
from shared.db.sql import load

_sql: Final = load("restored")
_NO_HOST: Final = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server behind a database: `is_empty` when that holds no table, `is_ours` when it holds a ZapHub."""

    is_empty: bool
    is_ours: bool
    major: int


async def server(connection: Connection) -> Server:
    """Look at the database, whatever is in it."""
    row = await connection.fetchrow(_sql.server)
    assert row is not None, "it has no WHERE"
    return Server(is_empty=row["is_empty"], is_ours=row["is_ours"], major=row["major"])


async def about(connection: Connection) -> dict[str, Any]:
    """How much there is: `connections`, `messages`, those `waiting` and `in_doubt` of them; the last `migration`."""
    row = await connection.fetchrow(_sql.about)
    assert row is not None, "it has no WHERE"
    return dict(row)


async def settle(connection: Connection) -> None:
    """Lapse the leases of then, and let no try of then be taken for one that never left."""
    await connection.execute(_sql.lapse_leases)
    await connection.execute(_sql.doubt_tries, _NO_HOST)
