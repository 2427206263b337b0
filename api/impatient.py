"""Asking Postgres without waiting for one that is frozen: what looks after the process wants an answer in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from shared.db.pool import AWAY, Connection, Pool

_RELEASE_S: Final = 1.0


@asynccontextmanager
async def within(pool: Pool, seconds: float) -> AsyncIterator[Connection]:
    """A connection for at most so long. Raises TimeoutError after that, whatever the server does, or another of `AWAY`.

    The pool alone would first ask the server to cancel the statement, and wait for that too.
    """
    connection = await pool.acquire(timeout=seconds)
    try:
        async with asyncio.timeout(seconds):
            yield connection
    except TimeoutError:
        connection.terminate()
        raise
    finally:
        with suppress(*AWAY):
            await pool.release(connection, timeout=_RELEASE_S)
