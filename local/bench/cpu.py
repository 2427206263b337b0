"""CPU time of a server and its children, from /proc; elsewhere than on Linux nobody tells, and it is not measured."""

import math
import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat after the name, which may hold spaces: parent, and user, system and dead children's time.
_PARENT, _TIMES, _ALL_TIMES = 1, slice(11, 13), slice(11, 15)


def used_s(pids: tuple[int, ...]) -> float:
    """CPU seconds that these processes, their children and their dead children have used; NaN when nobody can tell."""
    if not (_PROC / "self" / "stat").exists():
        return math.nan
    ticks = 0
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        fields = _stat(folder)
        if fields and int(folder.name) in pids:
            ticks += sum(int(field) for field in fields[_ALL_TIMES])
        elif fields and int(fields[_PARENT]) in pids:
            ticks += sum(int(field) for field in fields[_TIMES])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []  # it ended since the folder was listed
