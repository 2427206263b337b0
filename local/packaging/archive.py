"""A folder as a zip whose bytes depend on its files alone: sorted, one time, one mode, one compression."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

# The earliest that a zip can say.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o644
_LEVEL: Final = 6
_UNIX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Zip:
    """A zip and its measures; `sha256` is in base64, as AWS and Terraform write it."""

    path: Path
    sha256: str
    zipped_bytes: int
    unzipped_bytes: int
    files: int


def write(folder: Path, path: Path) -> Zip:
    """Write the zip, in place of an older one."""
    files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.as_posix())
    unzipped = 0
    with ZipFile(path, "w") as archive:
        for file in files:
            info = ZipInfo(file.relative_to(folder).as_posix(), _TIME)
            info.create_system = _UNIX
            info.external_attr = _MODE << 16
            info.compress_type = ZIP_DEFLATED
            content = file.read_bytes()
            unzipped += len(content)
            archive.writestr(info, content, compresslevel=_LEVEL)
    digest = hashlib.sha256(path.read_bytes()).digest()
    return Zip(
        path=path,
        sha256=base64.b64encode(digest).decode(),
        zipped_bytes=path.stat().st_size,
        unzipped_bytes=unzipped,
        files=len(files),
    )
