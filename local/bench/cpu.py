"""CPU time of processes and their children, from /proc; where there is none, it is not measured."""

import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat after the name, which may hold spaces: parent, and user, system and dead children's time.
_PARENT, _TIMES = 1, slice(11, 15)


def used_s(pids: Collection[int]) -> float:
    """CPU seconds that these processes, their children and what both waited for have used; NaN when nobody can tell."""
    if not (_PROC / "self" / "stat").exists():
        return math.nan
    ticks = 0
    for folder in _PROC.iterdir():
        fields = _stat(folder) if folder.name.isdigit() else []
        if fields and (int(folder.name) in pids or int(fields[_PARENT]) in pids):
            ticks += sum(int(field) for field in fields[_TIMES])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []  # it ended since the folder was listed
