"""The backup's file: a tar with a manifest at its end, which names every other member with its size and checksum.

    database.dump                  pg_dump's custom format
    secrets.json                   secret_key, admin_key, host_token
    media/<2 characters>/<key>     the files of messages, when they lie in local files
    journal/<connection>/<file>    what came in and was not yet in Postgres
    manifest.json                  format, time, versions, and `files`

A file without a whole manifest is no backup: writing it was interrupted.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from shared.domain.errors import Misconfigured

FORMAT: Final = 1
DATABASE: Final = "database.dump"
SECRETS: Final = "secrets.json"
MANIFEST: Final = "manifest.json"
# Nothing else is unpacked, so no name leads out of the data folder.
_NAMES: Final = re.compile(
    r"database\.dump|secrets\.json|manifest\.json"
    r"|media/[0-9a-f]{2}/[0-9a-f]{64}\.[0-9a-f]{16}"
    r"|journal/[0-9a-z-]{1,64}/[0-9A-Za-z][0-9A-Za-z._-]{0,120}\.jsonl"
)
_CHUNK: Final = 1024 * 1024

# Called with how many bytes were handled in all, now and then.
Progress = Callable[[int], None]


def is_member(name: str) -> bool:
    """Whether a backup may hold a member of this name."""
    return _NAMES.fullmatch(name) is not None


class NotABackup(Misconfigured):
    """The file cannot be restored from; the text says what is wrong with it."""


@dataclass(slots=True)
class Writer:
    """An archive that is being written."""

    tar: tarfile.TarFile
    progress: Progress
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: int = 0

    def add(self, name: str, content: bytes) -> None:
        """Add a member from memory."""
        self._add(name, io.BytesIO(content), len(content))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file that nobody changes meanwhile. Raises FileNotFoundError when it is gone."""
        with path.open("rb") as file:
            self._add(name, file, os.fstat(file.fileno()).st_size)

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        read = _Hashed(file, self._count)
        self.tar.addfile(_member(name, size), read)
        self.files[name] = {"bytes": size, "sha256": read.hash.hexdigest()}

    def _count(self, count: int) -> None:
        self.written += count
        self.progress(self.written)


@contextmanager
def writing(path: Path, *, progress: Progress, about: dict[str, Any]) -> Iterator[Writer]:
    """Write a new archive; it has its name only once it is whole and on the disk. Its owner alone can read it.

    `about` goes into the manifest as it is when the block ends. Raises Misconfigured when the file exists, also when
    another backup has taken the name meanwhile.
    """
    if path.exists():
        raise _exists(path)
    # A name that no other backup has, and its owner's alone from its first byte.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                writer = Writer(tar, progress)
                yield writer
                manifest = {"format": FORMAT, **about, "files": writer.files}
                content = json.dumps(manifest, indent=1).encode()
                tar.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
            file.flush()
            os.fsync(descriptor)
        _name(unfinished, path)
        _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _name(unfinished: Path, path: Path) -> None:
    """Give a whole file its name, and take it from nobody, which a rename would do."""
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        # A file system without hard links.
        if path.exists():
            raise _exists(path) from None
        unfinished.rename(path)


def _exists(path: Path) -> Misconfigured:
    return Misconfigured(f"{path} exists already, and a backup is never written over. Choose another with --out.")


@dataclass(frozen=True, slots=True)
class Backup:
    """An archive that was read from end to end and is whole."""

    path: Path
    manifest: dict[str, Any]

    def read(self, name: str) -> bytes:
        """A small member, whole."""
        with tarfile.open(self.path, "r:") as tar:
            file = tar.extractfile(name)
            assert file is not None, "the check has seen it"
            return file.read()

    def unpack(self, targets: Callable[[str], Path | None], *, progress: Progress) -> None:
        """Write each member to the path that `targets` gives for its name; None leaves it out."""
        done = 0
        with tarfile.open(self.path, "r:") as tar:
            for member in tar:
                target = targets(member.name)
                if target is None:
                    continue
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None, "the check has seen it"
                with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    while chunk := source.read(_CHUNK):
                        file.write(chunk)
                        done += len(chunk)
                        progress(done)
                    file.flush()
                    os.fsync(file.fileno())


def checked(path: Path, *, progress: Progress) -> Backup:
    """Read the whole archive and compare every byte with its manifest. Raises NotABackup; changes nothing."""
    try:
        return _checked(path, progress)
    except FileNotFoundError:
        raise NotABackup(f"There is no {path}.") from None
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        # The last two: a length that no file can have.
        raise NotABackup(f"{path} is not a whole backup: {error}. Take another one.") from None
    except OSError as error:
        raise NotABackup(f"{path} cannot be read: {error.strerror}.") from error


def _checked(path: Path, progress: Progress) -> Backup:
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    seen = 0
    with _opened(path) as tar:
        for member in tar:
            if not member.isreg() or not is_member(member.name) or member.name in found:
                raise NotABackup(f"{path} holds {member.name!r}, which no backup of ZapHub has. Nothing was changed.")
            file = tar.extractfile(member)
            assert file is not None, "a regular file"
            if member.name == MANIFEST:
                manifest = _manifest(path, file.read())
                continue
            digest = hashlib.sha256()
            size = 0
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                seen += len(chunk)
                progress(seen)
            found[member.name] = {"bytes": size, "sha256": digest.hexdigest()}
    if manifest is None:
        raise NotABackup(f"{path} has no manifest: its writing was interrupted. Take another one.")
    if wrong := [name for name in {*found, *manifest["files"]} if found.get(name) != manifest["files"].get(name)]:
        raise NotABackup(f"{path} is damaged: {min(wrong)} is not what was written. Nothing was changed.")
    if missing := {DATABASE, SECRETS} - set(found):
        raise NotABackup(f"{path} lacks {min(missing)}.")
    return Backup(path, manifest)


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except tarfile.ReadError:
        raise NotABackup(
            f"{path} is no backup of ZapHub. If you encrypted or compressed one, undo that first."
        ) from None


def _manifest(path: Path, content: bytes) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(content)
        number = int(manifest["format"])
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise NotABackup(f"The manifest of {path} cannot be read ({type(error).__name__}).") from None
    if number != FORMAT:
        raise NotABackup(f"{path} has format {number}, and this version reads format {FORMAT}. Run the newer version.")
    return {**manifest, "files": files}


class _Hashed(io.RawIOBase):
    """Reads from a file and hashes what it gives."""

    def __init__(self, file: IO[bytes], count: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._count = count
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.hash.update(chunk)
        self._count(len(chunk))
        return chunk


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
