"""What a measured worker writes down about each job. Standard library only: a peer's own environment imports it too.

One file per process in the folder it is given, one line per fact, times in nanoseconds of the wall clock:

    S <id> <start>                                   as it happens, only with `is_immediate`
    E <id> <tenant> <called> <start> <end>           `called`: when the producer asked for the job
    C <time> <CPU seconds of this process so far>    at the first job, then with every write
"""

import os
import resource
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_FLUSH_S: Final = 0.05


class Recorder:
    """Opens its file at the first job. Lines leave every 50 ms, or at once if `is_immediate`: for what will die."""

    def __init__(self, folder: Path, *, is_immediate: bool = False) -> None:
        """Nothing is made before the first job."""
        self._path = folder / f"{os.getpid()}.log"
        self._is_immediate = is_immediate
        self._file: int | None = None
        self._lines: list[str] = []

    def began(self, job: Mapping[str, Any]) -> int:
        """The job's handler starts now; returns the time, which `ended` wants."""
        if self._file is None:
            self._open()
        now = time.time_ns()
        if self._is_immediate:
            self._write(f"S {job['id']} {now}\n")
        return now

    def ended(self, job: Mapping[str, Any], began: int) -> None:
        """The job's handler ends now."""
        line = f"E {job['id']} {job['tenant']} {job['called']} {began} {time.time_ns()}\n"
        if self._is_immediate:
            self._write(line)
        else:
            self._lines.append(line)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._write_cpu()
        if not self._is_immediate:
            threading.Thread(target=self._flush_for_ever, daemon=True).start()

    def _flush_for_ever(self) -> None:
        while True:
            time.sleep(_FLUSH_S)
            lines, self._lines = self._lines, []
            if lines:
                self._write("".join(lines))
                self._write_cpu()

    def _write_cpu(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._write(f"C {time.time_ns()} {used.ru_utime + used.ru_stime:.6f}\n")

    def _write(self, text: str) -> None:
        assert self._file is not None
        os.write(self._file, text.encode())
