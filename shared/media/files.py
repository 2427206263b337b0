"""Media in local files: one folder, named by content, written whole before they have their name."""

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.domain.errors import Unavailable
from shared.media.store import BytesMissing

_KEY: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{16}")
_READ_BYTES: Final = 256 * 1024

T = TypeVar("T")


class FileStore:
    """`<root>/ab/ab12….<generation>`. Files and folders are their owner's alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def spool_folder(self) -> Path:
        # On the same file system, so that a rename makes the file appear whole.
        return self._root / "incoming"

    async def put(self, key: str, path: Path) -> None:
        await _in_thread(_move, path, self._path(key))

    async def read(self, key: str, *, start: int, stop: int) -> AsyncGenerator[bytes]:
        path = self._path(key)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise BytesMissing("The file is no longer in the media store.") from None
        except OSError as error:
            raise _unavailable(error) from error
        try:
            await _in_thread(file.seek, start)
            left = stop - start
            while left > 0:
                chunk = await _in_thread(file.read, min(left, _READ_BYTES))
                if not chunk:
                    raise BytesMissing("The file in the media store is shorter than it was.")
                left -= len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with suppress(FileNotFoundError):
            await _in_thread(path.unlink)

    async def tidy(self, *, older_than_s: float) -> int:
        return await _in_thread(_tidy, self.spool_folder, time.time() - older_than_s)

    async def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> Path:
        # Keys come from our own table; a path is made of nothing else all the same.
        if not _KEY.fullmatch(key):
            raise ValueError("not the key of a media object")
        return self._root / key[:2] / key


def _move(path: Path, target: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the name as durable as the bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tidy(folder: Path, before: float) -> int:
    count = 0
    for path in folder.glob("*.part"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
                count += 1
    return count


async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - the call's own
    """Call it beside the loop. Raises Unavailable for what the disk says, but FileNotFoundError as it is."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error) from error


def _unavailable(error: OSError) -> Unavailable:
    # The error's own text names the path.
    return Unavailable(f"The media store's disk does not do it: {error.strerror or type(error).__name__}.")
