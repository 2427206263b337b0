"""The run directory: each part that is ready leaves a file there with its pid; see `shared.presence`."""

import json
import os
import shutil
from pathlib import Path


class RunDir:
    """Reads who is present. A part's files go when the part does, so that what is there is this start's."""

    def __init__(self, folder: Path) -> None:
        """Empty the folder, or make it; only its owner may read it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder

    def pids(self) -> dict[str, int]:
        """Return the pid of everyone who announced itself, dead or alive."""
        found: dict[str, int] = {}
        for entry in self.folder.glob("*.json"):
            try:
                found[entry.stem] = int(json.loads(entry.read_bytes())["pid"])
            except (FileNotFoundError, KeyError, TypeError, ValueError):
                # Gone since it was listed, or another program's file: nobody we know is present by it.
                continue
        return found

    def forget(self, part: str) -> None:
        """Remove the files of a part that ended, and of its child processes."""
        for entry in (self.folder / f"{part}.json", *self.folder.glob(f"{part}-child-*.json")):
            entry.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process has this pid now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
