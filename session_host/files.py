"""The files of messages that are sent: whole and in memory, as the library wants them, few at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from session_host.whatsapp.port import OutgoingFile
from shared.domain.errors import NotFound, Unavailable
from shared.hosts.protocol import Refused
from shared.media.keeping import Media

# Each is up to 64 MiB, and twice while it is encrypted.
_AT_ONCE: Final = 4


class Files:
    """One process's way to the media store."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def opened(self, media_id: str) -> AsyncIterator[OutgoingFile | Refused]:
        """The file, to be let go at the end of the block; or why there is none, and whether a retry may help."""
        async with self._turns:
            yield await self._read(media_id)

    async def _read(self, media_id: str) -> OutgoingFile | Refused:
        try:
            data, found = await self._media.read(UUID(media_id))
        except (NotFound, ValueError):
            return Refused(code="MEDIA_GONE", detail="The file of this message is no longer here.", permanent=True)
        except Unavailable as error:
            return Refused(code="UNAVAILABLE", detail=error.detail)
        return OutgoingFile(data=data, mimetype=found.mimetype, filename=found.filename)
