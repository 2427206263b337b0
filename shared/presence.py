"""How a part tells its supervisor that it is ready and which process does its work."""

import ctypes
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def announce(run_dir: Path | None, name: str) -> None:
    """Write `<run_dir>/<name>.json` with this process's pid, in one step. Without a run_dir nobody supervises: nothing.

    Called again by a restarted part it replaces the old pid.
    """
    if run_dir is None:
        return
    handle, temporary = tempfile.mkstemp(dir=run_dir, prefix=f".{name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"pid": os.getpid()}, file)
    Path(temporary).replace(run_dir / f"{name}.json")


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
