"""A connection kept for one loop: giving it back to the pool after each statement would cost a round trip."""

from contextlib import suppress
from typing import Final

from shared.db.pool import AWAY, Connection, Pool

_RELEASE_TIMEOUT_S: Final = 1.0


class Lane:
    """Belongs to one loop; two may not use it at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    async def open(self) -> Connection:
        """The kept connection, or a new one when there is none or it broke. Raises one of `AWAY`."""
        if self._connection is not None and _is_broken(self._connection):
            await self.close()
        if self._connection is None:
            self._connection = await self._pool.acquire(timeout=5)
        return self._connection

    async def drop(self) -> None:
        """Break the connection off and forget it: after an error nobody knows what it still carries."""
        if self._connection is not None and not _is_broken(self._connection):
            self._connection.terminate()
        await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*AWAY):
                await self._pool.release(connection, timeout=_RELEASE_TIMEOUT_S)  # type: ignore[arg-type]  # it came from there


def _is_broken(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except AWAY:
        return True  # the pool took it back when its server died, and it answers nothing any more
