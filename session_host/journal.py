"""The journal: what came in from the wire, on this machine's disk before the library goes on, until Postgres has it.

`<folder>/<connection>/<host>.<number>.jsonl`, one entry a line. A file belongs to the process whose lock file
`<folder>/owners/<host>` is locked; when that process is dead, any other of this machine replays it.

Room for what finds the disk full is held in `<folder>/reserve/<host>`.
"""

import fcntl
import json
import os
import threading
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from session_host.reserve import Reserve
from shared.domain.errors import Misconfigured
from shared.domain.ids import ConnectionId, HostId

# A new file after so many bytes, so that a busy one can be deleted in parts while it grows.
_FILE_BYTES: Final = 4 * 1024 * 1024
_OWNERS: Final = "owners"
_RESERVE: Final = "reserve"
_SUFFIX: Final = ".jsonl"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Open:
    """The file that a connection's entries are appended to, under the lock; none before the first."""

    path: Path | None = None
    descriptor: int = -1
    size: int = 0
    is_spoiled: bool = False  # an append to it failed
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some entries of one file, in order, none where all lines are broken; `end` is where the next ones begin."""

    path: Path
    entries: list[dict[str, Any]]
    end: int


class JournalFull(OSError):
    """What came in is written down, in the room that was held for that; there is none for the next."""


class Journal:
    """One process's journal. `append` may be called from any thread.

    Raises Misconfigured when the folder cannot be used: without it nothing may come in.
    """

    def __init__(self, folder: Path, host: HostId) -> None:
        self._folder = folder
        self._host = host
        self._open: dict[ConnectionId, _Open] = {}
        self._lock = threading.Lock()
        self._numbers = 0
        self._read_to: dict[Path, int] = {}
        try:
            # Held until the process ends, however it ends.
            self._owned = _locked(folder / _OWNERS / host)
        except OSError as error:
            detail = f"The journal {folder} cannot be written ({error.strerror}): make room there, or allow it."
            raise Misconfigured(detail) from error
        self._reserve = Reserve(folder / _RESERVE / host)
        self._reserve.hold()

    def has_room(self) -> bool:
        """Whether more may come in: the reserve stands, or could be written anew. Any thread; waits for the disk."""
        return self._reserve.hold()

    def append(self, connection_id: ConnectionId, entry: dict[str, Any]) -> None:
        """Write the entry and wait until it is on the disk.

        Raises JournalFull when that took the reserve: the entry is there, and nothing more may come in before
        `has_room`. Raises another OSError when the disk refuses it all the same, and then it is not there.
        """
        text = json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        with self._lock:
            file = self._open.setdefault(connection_id, _Open())
        with file.lock:
            try:
                self._append(connection_id, file, line)
            except OSError:
                self._reserve.give_up()
                self._append(connection_id, file, line)
        if not self.has_room():
            raise JournalFull("the journal's disk is full")

    def batch(self, *, limit: int = 200) -> Batch | None:
        """The oldest entries of this process that are not done, of any connection; None when all are.

        Asked again before `done`, it is the same batch.
        """
        return next(self._batches(self._mine(), limit=limit), None)

    def done(self, batch: Batch) -> None:
        """These entries are in Postgres: forget them. A crash before this replays them."""
        self._read_to[batch.path] = batch.end
        self._drop_when_read(batch.path)

    def orphans(self, connection_id: ConnectionId | None = None, *, limit: int = 200) -> Generator[Batch, None, None]:
        """Entries that dead processes of this machine left, in batches; asking for the next one says that this is done.

        The caller holds the dead process's lock meanwhile, so nobody else replays them.
        """
        for host in self._dead_hosts():
            lock = self._take(host)
            if lock is None:
                continue
            try:
                for path in self._files(host, connection_id):
                    offset = 0
                    while (found := _read(path, offset, limit=limit)) is not None:
                        yield found
                        offset = found.end
                    path.unlink(missing_ok=True)
                (self._folder / _RESERVE / host).unlink(missing_ok=True)
                if not list(self._files(host, None)):
                    (self._folder / _OWNERS / host).unlink(missing_ok=True)
            finally:
                os.close(lock)

    def reject(self, connection_id: ConnectionId, entry: dict[str, Any]) -> None:
        """Keep an entry that Postgres will never take, for a person, beside the journal."""
        folder = self._folder / "rejected"
        folder.mkdir(exist_ok=True, mode=0o700)
        with (folder / f"{connection_id}{_SUFFIX}").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        """Let go of every file. What is left is replayed by the next process."""
        with self._lock:
            for file in self._open.values():
                with file.lock:
                    if file.path is not None:
                        os.close(file.descriptor)
                        file.path = None
            self._open.clear()
        self._reserve.give_up()
        os.close(self._owned)

    def _append(self, connection_id: ConnectionId, file: _Open, line: bytes) -> None:
        if file.path is None or file.size >= _FILE_BYTES or file.is_spoiled:
            self._begin(connection_id, file)
        try:
            _write(file.descriptor, line)
        except OSError:
            # The reader may be past what is taken back here, and would not see what takes its place.
            file.is_spoiled = True
            # Half a line would hide the next one.
            os.ftruncate(file.descriptor, file.size)
            raise
        file.size += len(line)

    def _begin(self, connection_id: ConnectionId, file: _Open) -> None:
        """Go on in a new file. Its lock is held."""
        folder = self._folder / str(connection_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            self._numbers += 1
            number = self._numbers
        path = folder / f"{self._host}.{number:09d}{_SUFFIX}"
        before, file.path = file.path, path
        # From the line above on the reader knows that somebody appends to it. It deletes every other file that holds
        # nothing: the entries that were appended to a deleted one were lost.
        try:
            descriptor = _created(path)
        except OSError:
            file.path = before
            raise
        if before is not None:
            os.close(file.descriptor)
        file.descriptor, file.size, file.is_spoiled = descriptor, 0, False

    def _mine(self) -> list[Path]:
        return sorted(self._files(self._host, None), key=lambda path: path.name)

    def _batches(self, paths: list[Path], *, limit: int) -> Iterator[Batch]:
        for path in paths:
            found = _read(path, self._read_to.get(path, 0), limit=limit)
            if found is not None:
                yield found
            else:
                self._drop_when_read(path)

    def _drop_when_read(self, path: Path) -> None:
        """Delete a file whose entries are all done; the one that is appended to is emptied instead."""
        read_to = self._read_to.get(path, 0)
        with self._lock:
            file = next((one for one in self._open.values() if one.path == path), None)
        if file is None:
            if path.exists() and path.stat().st_size <= read_to:
                path.unlink(missing_ok=True)
                self._read_to.pop(path, None)
            return
        if not read_to:
            return
        with file.lock:
            if file.path == path and file.size and file.size <= read_to:
                os.ftruncate(file.descriptor, 0)
                file.size = 0
                self._read_to[path] = 0

    def _files(self, host: str, connection_id: ConnectionId | None) -> Iterator[Path]:
        pattern = f"{connection_id or '*'}/{host}.*{_SUFFIX}"
        return iter(sorted(self._folder.glob(pattern)))

    def _dead_hosts(self) -> list[str]:
        return sorted(path.name for path in (self._folder / _OWNERS).iterdir() if path.name != self._host)

    def _take(self, host: str) -> int | None:
        try:
            descriptor = os.open(self._folder / _OWNERS / host, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor


def _read(path: Path, offset: int, *, limit: int) -> Batch | None:
    """Up to `limit` entries from `offset`; None at the end. Half a line at the end was never acknowledged."""
    entries: list[dict[str, Any]] = []
    end, broken = offset, 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                checksum, _, text = line.rstrip(b"\n").partition(b" ")
                if checksum == b"%08x" % zlib.crc32(text):
                    entries.append(json.loads(text))
                else:
                    broken += 1
                end += len(line)
                if len(entries) >= limit:
                    break
    except FileNotFoundError:
        return None
    if broken:
        # Half a line of a machine that lost power, or an entry that the disk has not kept.
        log.error("journal_lines_broken", lines=broken)
    return Batch(path=path, entries=entries, end=end) if end > offset else None


def _write(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) != len(line):
        raise OSError("the disk is full")
    os.fdatasync(descriptor)


def _locked(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _created(path: Path) -> int:
    """A new file, which a crash leaves in its folder; its descriptor, to append to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
