"""`Media`: keep files once by their content, find them, read them, and delete them when nobody needs them any more."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar
from uuid import UUID

import structlog

from shared.db import media as rows
from shared.db.media import Medium, NewMedium
from shared.db.pool import Connection, Pool
from shared.domain.errors import NotFound, Unavailable
from shared.domain.media import MediaState
from shared.failpoints import reach
from shared.media.spool import Spool, Spooled
from shared.media.store import MediaStore, open_store
from shared.settings import Settings

# Putting a file ends before this, or is given up; its object is swept only long after.
_PUT_S: Final = 600.0
ABANDONED_S: Final = 3600.0
_SWEEP_ROWS: Final = 100

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Media:
    """One per process; safe to share between tasks. Every call may raise Unavailable, and then may be repeated."""

    def __init__(self, store: MediaStore, pool: Pool, *, max_bytes: int, keep_days: int) -> None:
        self._store = store
        self._pool = pool
        self.max_bytes = max_bytes
        self._keep_days = keep_days

    def spool(self) -> Spool:
        """Where a file that comes in is written, `max_bytes` of it at most."""
        return Spool(self._store.spool_folder, max_bytes=self.max_bytes)

    async def keep(self, spooled: Spooled, record: Callable[[Connection, str], Awaitable[T]]) -> T:
        """See that the bytes are stored, and have `record` refer to them by their key, in one transaction with it.

        Content that is here already is not put again. A crash at any point leaves bytes that nobody refers to at most,
        and the sweep takes them.
        """
        found = await self._record(spooled, None, record)
        if found is None:
            found = await self._record(spooled, await self._place(spooled), record)
        if found is None:
            raise Unavailable("The file took too long to store; send it again.")
        return found[0]

    async def add(
        self,
        spooled: Spooled,
        new: NewMedium,
        *,
        also: Callable[[Connection, Medium], Awaitable[None]] | None = None,
    ) -> Medium:
        """Store a file under its row, and do what `also` does in the same transaction.

        Raises NotFound when there is no such connection, or it is deleted.
        """

        async def record(connection: Connection, key: str) -> Medium:
            added = await rows.insert(
                connection, new, object_key=key, sha256=spooled.sha256, size=spooled.size, days=self._keep_days
            )
            if added is None:
                raise NotFound("There is no such connection.")
            if also is not None:
                await also(connection, added)
            return added

        return await self.keep(spooled, record)

    async def find(self, media_id: UUID) -> Medium:
        """The stored file of that id, whoever's it is. Raises NotFound with the code MEDIA_GONE."""
        async with self._pool.acquire() as connection:
            found = await rows.find(connection, media_id)
        if found is None or found.state is not MediaState.STORED:
            raise NotFound("The file is no longer here, or not yet.", code="MEDIA_GONE")
        return found

    async def read(self, media_id: UUID) -> tuple[bytes, Medium]:
        """The whole file in memory: for the session host, whose library wants it so. Raises NotFound (MEDIA_GONE)."""
        found = await self.find(media_id)
        async with aclosing(self.stream(found)) as pieces:
            return b"".join([piece async for piece in pieces]), found

    def stream(self, found: Medium, *, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes of a stored file from `start` up to `stop` (None: its end). Raises NotFound (MEDIA_GONE)."""
        assert found.object_key is not None, "only a stored file has bytes"
        assert found.size is not None, "only a stored file has bytes"
        return self._store.read(found.object_key, start=start, stop=found.size if stop is None else stop)

    async def sweep(self) -> int:
        """Delete a batch of bytes that nobody refers to, and return how many; 0: none is left that can go now."""
        async with self._pool.acquire() as connection:
            await rows.doom_abandoned(connection, older_than_s=ABANDONED_S, limit=_SWEEP_ROWS)
            keys = await rows.doomed(connection, limit=_SWEEP_ROWS)
        deleted: list[str] = []
        for key in keys:
            if not await self._delete(key):
                break  # each of the others would wait as long for a store that is away
            deleted.append(key)
        async with self._pool.acquire() as connection:
            await rows.forget_objects(connection, deleted)
        return len(deleted)

    async def tidy(self) -> int:
        """Delete what died uploads of this machine left aside; the number of files."""
        return await self._store.tidy(older_than_s=ABANDONED_S)

    async def _record(
        self, spooled: Spooled, placed: str | None, record: Callable[[Connection, str], Awaitable[T]]
    ) -> tuple[T] | None:
        async with self._pool.acquire() as connection, connection.transaction():
            key = await rows.claim_object(connection, spooled.sha256, placed)
            return None if key is None else (await record(connection, key),)

    async def _place(self, spooled: Spooled) -> str:
        """Put the bytes under a key of their own, announced before, so that a crash leaves none that nobody knows."""
        key = f"{spooled.sha256.hex()}.{os.urandom(8).hex()}"
        async with self._pool.acquire() as connection:
            await rows.announce_object(connection, key, sha256=spooled.sha256, size=spooled.size)
        reach("media_announced")
        try:
            async with asyncio.timeout(_PUT_S):
                await self._store.put(key, spooled.path)
        except TimeoutError:
            raise Unavailable("The media store did not take the file in time.") from None
        reach("media_placed")
        return key

    async def _delete(self, key: str) -> bool:
        try:
            await self._store.delete(key)
        except (Unavailable, NotFound) as error:
            log.warning("media_object_not_deleted", error=type(error.__cause__ or error).__name__)
            async with self._pool.acquire() as connection:
                await rows.postpone_doomed(connection, key)
            return False
        return True


@asynccontextmanager
async def open_media(settings: Settings, pool: Pool) -> AsyncIterator[Media]:
    """The media of this process, in the store that the settings name."""
    store = open_store(settings)
    try:
        yield Media(store, pool, max_bytes=settings.media_max_bytes, keep_days=settings.retention_media_days)
    finally:
        await store.close()
