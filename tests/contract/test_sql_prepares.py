"""Every query of shared/db/sql/ is understood by a migrated database: no misspelt column, no wrong type."""

import asyncpg

from shared.db.sql import aggregates, load


async def test_every_query_prepares(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    try:
        refused = [
            f"{aggregate}.{name}: {refusal}"
            for aggregate in aggregates()
            for name, query in load(aggregate)
            if (refusal := await _refusal(connection, query))
        ]
    finally:
        await connection.close()

    assert not refused, "\n".join(refused)


async def _refusal(connection: "asyncpg.Connection[asyncpg.Record]", query: str) -> str | None:
    """What Postgres says against the query, or None."""
    try:
        await connection.prepare(query)
    except asyncpg.PostgresError as error:
        return str(error)
    return None
