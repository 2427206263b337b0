"""The data folder: what is where in it, who may use it now, and the secrets that are made for it."""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from local.embedded.unprivileged import kept_elsewhere
from shared.domain.errors import Misconfigured

# Made when unset, and kept: a lost secret_key makes every stored secret unreadable.
_MADE = ("admin_key", "secret_key", "host_token")
_SECRET_BYTES = 32
# A socket's path has at most 103 bytes, and Postgres's needs 35 of them below this.
_LONGEST_TMPDIR = 68
_SHORT_TMPDIR = "/tmp"  # noqa: S108 - mkdtemp makes what is used below it


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths of one data folder; nothing is made by naming them."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The embedded Postgres's files."""
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        """The embedded Valkey's files."""
        return self.root / "valkey"

    @property
    def fake_whatsapp(self) -> Path:
        """What the fake WhatsApp server accepted."""
        return self.root / "fake-whatsapp"

    @property
    def logs(self) -> Path:
        """One log file a part."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Where running parts announce themselves."""
        return self.root / "run"

    @property
    def ready_file(self) -> Path:
        """What `up` says about itself while it runs, for the commands that join it."""
        return self.root / "up.json"

    @property
    def secrets_file(self) -> Path:
        """The keys that were made for this folder."""
        return self.root / "secrets.json"

    @property
    def _lock_file(self) -> Path:
        return self.root / "lock"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold it, so that no second `up` serves the same files.

        Raises Misconfigured when another process holds it, or when it cannot be made. The claim ends with the process,
        however that ends.
        """
        with self._opened_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                msg = (
                    f"ZapHub already runs on {self.root} (process {lock.read().strip() or 'unknown'}). "
                    "Stop that one, or choose another folder with --data-dir."
                )
                raise Misconfigured(msg) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def _opened_lock(self) -> TextIO:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._lock_file.open("a+", encoding="utf-8")
        except OSError as error:
            msg = f"The data folder {self.root} cannot be used: {error.strerror}. Choose another with --data-dir."
            raise Misconfigured(msg) from error

    def is_claimed(self) -> bool:
        """Whether an `up` runs on this folder now. Raises Misconfigured for a folder of somebody else's."""
        try:
            with self._lock_file.open(encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:
            msg = f"The data folder {self.root} belongs to another user. Choose another with --data-dir."
            raise Misconfigured(msg) from None
        except BlockingIOError:
            return True
        return False

    def secrets(self) -> dict[str, str]:
        """Return this folder's `admin_key`, `secret_key` and `host_token`, made at the first call.

        They are kept in a file that only its owner can read. Call it holding the claim. Raises Misconfigured for a
        database whose secrets are gone: new ones would open nothing of what it holds.
        """
        path = self.secrets_file
        database = kept_elsewhere(self.postgres) or self.postgres
        if database.is_dir() and not path.exists():
            raise Misconfigured(
                f"{database} holds a database, and its {path.name} is gone: it was deleted, or a restore was "
                f"interrupted. Bring back {path}, or restore a backup into a new folder."
            )
        kept: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
        missing = [name for name in _MADE if name not in kept]
        if missing:
            kept |= {name: secrets.token_urlsafe(_SECRET_BYTES) for name in missing}
            replace_file(path, json.dumps(kept, indent=2) + "\n")
        return kept

    def remove(self) -> None:
        """Delete the folder with its database, wherever that is. For one that nobody serves any more."""
        if there := kept_elsewhere(self.postgres):
            shutil.rmtree(there, ignore_errors=True)
        shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def sockets(self) -> Iterator[Path]:
        """Make a folder for unix sockets, with a path short enough for them, for the length of the block.

        Call it holding the claim: what a killed holder left behind is removed.
        """
        note = self.root / "sockets"
        if note.exists():
            left = Path(note.read_text(encoding="utf-8").strip())
            if left.name.startswith("zh-"):
                shutil.rmtree(left, ignore_errors=True)
        # Made by mkdtemp, so it is ours, new and closed to others, whoever else writes to the temporary folder.
        is_short = len(tempfile.gettempdir()) <= _LONGEST_TMPDIR
        folder = Path(tempfile.mkdtemp(prefix="zh-", dir=None if is_short else _SHORT_TMPDIR))
        if os.geteuid() == 0:
            # The account that Postgres runs as, where root cannot, passes through to its own folder in it.
            folder.chmod(0o711)
        replace_file(note, f"{folder}\n")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            note.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
