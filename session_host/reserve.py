"""Room on the disk that a journal holds, so that what finds the disk full can be written down all the same.

WhatsApp has the acknowledgement of a message before it is written down: the one that finds no room would be lost.
"""

import os
import shutil
import threading
from pathlib import Path
from typing import Final

# Some 7,000 messages: what may still come in while the sockets of one process close.
RESERVE_BYTES: Final = 4 * 1024 * 1024


class Reserve:
    """A file of RESERVE_BYTES at `path`, or none. May be used from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_held = False

    def hold(self) -> bool:
        """Whether the room is held; when not, try to take it now, which waits for the disk."""
        with self._lock:
            if not self._is_held:
                self._is_held = _written(self._path)
            return self._is_held

    def give_up(self) -> None:
        """Let others have the room; also where none is held."""
        with self._lock:
            self._is_held = False
            self._path.unlink(missing_ok=True)


def _written(path: Path) -> bool:
    """Write the file and wait for the disk; False, and nothing is left of it, when there is too little room."""
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        # The last free bytes may be what Postgres needs.
        if shutil.disk_usage(path.parent).free < 2 * RESERVE_BYTES:
            return False
        with path.open("wb") as file:
            # Real zeros: a hole would be no room, and not every file system can set room aside.
            file.write(bytes(RESERVE_BYTES))
            file.flush()
            os.fdatasync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True
