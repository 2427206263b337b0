"""The port to where bytes lie: `MediaStore`, and which one the settings name."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from shared.domain.errors import NotFound
from shared.settings import Settings


class BytesMissing(NotFound):
    """The row is there and its bytes are not: somebody deleted them past ZapHub."""

    code = "MEDIA_GONE"


class MediaStore(Protocol):
    """Bytes under keys that ZapHub makes. Every method raises Unavailable when the store does not answer in time."""

    @property
    def spool_folder(self) -> Path:
        """Where files that are to be put are written first; `put` may move them from there."""
        ...

    async def put(self, key: str, path: Path) -> None:
        """Store the file's bytes whole or not at all, on the disk when this returns; the file may be gone then."""
        ...

    def read(self, key: str, *, start: int, stop: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to `stop`, in pieces. Raises BytesMissing."""
        ...

    async def delete(self, key: str) -> None:
        """Delete the bytes; none is fine."""
        ...

    async def tidy(self, *, older_than_s: float) -> int:
        """Delete what uploads that died left in the spool folder, when it is as old; the number of files."""
        ...

    async def close(self) -> None: ...


def open_store(settings: Settings) -> MediaStore:
    """The store of `settings.media_store`. It is not contacted before it is used."""
    # Each loads only what it needs: the S3 client is 16 MB.
    if settings.media_store == "files":
        from shared.media.files import FileStore  # noqa: PLC0415 - explained above

        return FileStore(settings.data_dir / "media")
    from shared.media.s3 import S3MediaStore  # noqa: PLC0415 - explained above

    return S3MediaStore(settings.media_store, endpoint=settings.media_endpoint, region=settings.media_region)
