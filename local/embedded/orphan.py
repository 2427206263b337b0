"""Finds a Postgres that outlived the process which started it, and stops it."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import Misconfigured

_STOP_S = 20
_POLL_S = 0.02
# The lock file's lines are fixed by Postgres: the pid is the first, the status the eighth.
_PID_LINE, _STATUS_LINE = 0, 7


class OrphanStays(Misconfigured):
    """A server of ours still serves the data folder and does not stop; the text names its pid."""


@dataclass(frozen=True, slots=True)
class LockFile:
    """What a data folder's postmaster.pid says."""

    pid: int
    is_ready: bool


def read_lock_file(cluster: Path) -> LockFile | None:
    """Return what the lock file says, or None when there is none or it is not whole."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid = int(lines[_PID_LINE])
    except (OSError, ValueError, IndexError):
        return None
    status = lines[_STATUS_LINE] if len(lines) > _STATUS_LINE else ""
    return LockFile(pid=pid, is_ready=status.strip() == "ready")


def stop(cluster: Path) -> None:
    """Leave the data folder with no server and no lock file, so that the next start is clean.

    Raises OrphanStays when a live server does not stop within 20 s. Call only while holding the lock on the folder
    around it: the server is then nobody's.
    """
    lock = read_lock_file(cluster)
    if lock is None:
        return
    if _serves(lock.pid, cluster):
        os.kill(lock.pid, signal.SIGINT)
        deadline = time.monotonic() + _STOP_S
        while _serves(lock.pid, cluster):
            if time.monotonic() > deadline:
                raise OrphanStays(f"Postgres {lock.pid} still serves {cluster}. End it: kill -QUIT {lock.pid}")
            time.sleep(_POLL_S)
    # Postgres would refuse to start if the dead server's pid now belonged to another process of this user.
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, cluster: Path) -> bool:
    """Whether `pid` is a server of this very folder, and not a process that was given the number since."""
    working_folder = Path(f"/proc/{pid}/cwd")
    try:
        # A server's working folder is its data folder.
        return working_folder.resolve(strict=True) == cluster.resolve()
    except OSError:
        pass
    ps = shutil.which("ps")
    if Path("/proc/self").exists() or ps is None:
        return False
    said = subprocess.run([ps, "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "postgres" in said.stdout and str(cluster) in said.stdout
