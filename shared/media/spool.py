"""A file on its way in: written aside while its bytes are counted, hashed and looked at."""

import asyncio
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import uuid4

from shared.domain.errors import InvalidInput, Unavailable
from shared.domain.media_type import SNIFF_BYTES

# So much is held in memory of each file on its way.
_BUFFER_BYTES: Final = 1024 * 1024


class TooLarge(InvalidInput):
    """The file has more bytes than it may."""

    code = "MEDIA_TOO_LARGE"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"A file has at most {max_bytes} bytes here (ZAPHUB_MEDIA_MAX_BYTES).")
        self.max_bytes = max_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A whole file, still aside. `beginning` is what tells its type."""

    path: Path
    size: int
    sha256: bytes
    beginning: bytes


class Spool:
    """An async context manager: what was not put into the store is gone at its end."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._path = folder / f"{uuid4().hex}.part"
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._beginning = b""
        self._hash = hashlib.sha256()
        self._size = 0
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        try:
            self._file = await asyncio.to_thread(self._open)
        except OSError as error:
            raise _no_place(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        # Shielded by a thread of its own: a cancelled upload leaves nothing either.
        await asyncio.shield(asyncio.to_thread(self._remove))

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises TooLarge as soon as there are too many, and Unavailable for a full disk."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise TooLarge(self._max_bytes)
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._flush()

    async def finish(self) -> Spooled:
        """The file once all of it was written. Raises Unavailable for a full disk."""
        await self._flush()
        return Spooled(path=self._path, size=self._size, sha256=self._hash.digest(), beginning=self._beginning)

    async def _flush(self) -> None:
        buffer, self._buffer = bytes(self._buffer), bytearray()
        try:
            await asyncio.to_thread(self._take, buffer)
        except OSError as error:
            raise _no_place(error) from error

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A name that nobody else has, and a file that nobody else may read.
        return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _take(self, buffer: bytes) -> None:
        assert self._file is not None, "the spool is used as a context manager"
        self._file.write(buffer)
        self._file.flush()
        self._hash.update(buffer)
        if len(self._beginning) < SNIFF_BYTES:
            self._beginning = (self._beginning + buffer)[:SNIFF_BYTES]

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)


def _no_place(error: OSError) -> Unavailable:
    return Unavailable(f"There is no place for the file: {error.strerror or type(error).__name__}.")
