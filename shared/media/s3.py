"""Media in an S3 bucket, or in what speaks its protocol; the only home of obstore."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from shared.domain.errors import Unavailable
from shared.media.store import BytesMissing

if TYPE_CHECKING:
    from obstore.store import S3Config  # in the stubs alone

# Of one request; a large file is put in several.
_REQUEST_TIMEOUT: Final = "60s"
_CONNECT_TIMEOUT: Final = "5s"
_RETRIES: Final = 3
_RETRY_S: Final = 30.0
_CALL_S: Final = 300.0
_READ_BYTES: Final = 256 * 1024

T = TypeVar("T")


class S3MediaStore:
    """`url` is `s3://bucket/prefix`. The credentials are AWS's own variables, or those of the machine's role."""

    def __init__(self, url: str, *, endpoint: str | None = None, region: str | None = None) -> None:
        parts = urlsplit(url)
        config: S3Config = {}
        if endpoint is not None:
            config["endpoint"] = endpoint
        if region is not None:
            config["region"] = region
        self._store = S3Store(
            parts.netloc,
            config=config,
            prefix=parts.path.strip("/") or None,
            client_options={
                "timeout": _REQUEST_TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
        )
        self._spool = tempfile.TemporaryDirectory(prefix="zaphub-media-", ignore_cleanup_errors=True)

    @property
    def spool_folder(self) -> Path:
        return Path(self._spool.name)

    async def put(self, key: str, path: Path) -> None:
        try:
            await _answered(obstore.put_async(self._store, _path(key), path))
        except BytesMissing as error:
            raise Unavailable("The media store has no such bucket; check ZAPHUB_MEDIA_STORE.") from error

    async def read(self, key: str, *, start: int, stop: int) -> AsyncGenerator[bytes]:
        if start >= stop:
            return
        found = await _answered(obstore.get_async(self._store, _path(key), options={"range": (start, stop)}))
        pieces = found.stream(min_chunk_size=_READ_BYTES)
        while (piece := await _answered(anext(pieces, None))) is not None:
            yield bytes(piece)

    async def delete(self, key: str) -> None:
        await _answered(obstore.delete_async(self._store, _path(key)))

    async def tidy(self, *, older_than_s: float) -> int:  # noqa: ARG002 - the port's; a process's spool goes with it
        return 0

    async def close(self) -> None:
        await asyncio.to_thread(self._spool.cleanup)


def _path(key: str) -> str:
    return f"{key[:2]}/{key}"


async def _answered(call: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_CALL_S):
            return await call
    except FileNotFoundError as error:
        # A bucket that does not exist is reported in the same way.
        raise BytesMissing("The file, or its bucket, is not in the media store.") from error
    except (BaseError, TimeoutError, OSError) as error:
        # The client's own text names the bucket and the endpoint, and is kept as the cause.
        raise Unavailable(f"The media store does not do it ({type(error).__name__}).") from error
