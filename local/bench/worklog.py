"""Reads what workers wrote down (see `recorder`), while they write it."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from local.bench.program import Program, ProgramFailed

_LOOK_EVERY_S: Final = 0.1


class Stalled(ProgramFailed):
    """The worker lives, and nothing ends any more."""


class Run(NamedTuple):
    """One run of one job to its handler's end; times in nanoseconds of the wall clock."""

    id: int
    tenant: str
    called: int
    began: int
    ended: int


@dataclass(slots=True)
class WorkLog:
    """The records in one folder, of however many workers; `poll` reads what is new."""

    folder: Path
    runs: list[Run] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    _cpu_s: dict[Path, list[float]] = field(default_factory=dict)
    _read: Counter[Path] = field(default_factory=Counter)

    def poll(self) -> None:
        """Read every whole line that is new."""
        for path in self.folder.glob("*.log"):
            with path.open("rb") as file:
                file.seek(self._read[path])
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] += len(whole)
            self._take(path, whole.decode().splitlines())

    def wait_for(self, jobs: int, worker: Program, *, stall_s: float = 60.0) -> None:
        """Return once so many different jobs have ended.

        Raises ProgramFailed when the worker ends, Stalled when nothing at all ended for `stall_s` seconds.
        """
        count, changed_at = -1, time.monotonic()
        while (done := self.done()) < jobs:
            worker.check()
            if done != count:
                count, changed_at = done, time.monotonic()
            if time.monotonic() - changed_at > stall_s:
                raise Stalled(f"only {done} of {jobs} jobs ended:\n{worker.said()}")
            time.sleep(_LOOK_EVERY_S)

    def done(self) -> int:
        """How many different jobs have ended by now."""
        self.poll()
        return len({run.id for run in self.runs})

    def seconds(self) -> float:
        """From the first handler's start to the last handler's end."""
        return (max(run.ended for run in self.runs) - min(run.began for run in self.runs)) / 1e9

    def cpu_s(self) -> float:
        """CPU seconds that the workers used from their first job to their last record."""
        return sum(seconds[-1] - seconds[0] for seconds in self._cpu_s.values())

    def ended_twice(self) -> int:
        """How many jobs' handlers came to their end more than once."""
        return sum(count > 1 for count in Counter(run.id for run in self.runs).values())

    def started_twice(self) -> int:
        """How many jobs' handlers started more than once."""
        return sum(count > 1 for count in Counter(self.starts).values())

    def _take(self, path: Path, lines: Iterable[str]) -> None:
        for line in lines:
            kind, *rest = line.split(" ")
            if kind == "E":
                number, tenant, called, began, ended = rest
                self.runs.append(Run(int(number), tenant, int(called), int(began), int(ended)))
            elif kind == "S":
                self.starts.append(int(rest[0]))
            else:
                self._cpu_s.setdefault(path, []).append(float(rest[1]))
