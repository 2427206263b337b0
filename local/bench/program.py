"""A program of the bench: started in a session of its own, ended by pid, never left behind."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.child_process import child_command
from shared.domain.errors import ZapHubError

_STOP_S: Final = 20.0
_RUN_S: Final = 900.0
_TAIL: Final = 1500


class ProgramFailed(ZapHubError):
    """A measured program ended with an error; the text carries the end of what it said."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program; `pid` is also its process group's."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.popen.pid

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]

    def check(self) -> None:
        """Raise ProgramFailed when it has ended: while it is measured it must not."""
        if self.popen.poll() is not None:
            raise ProgramFailed(f"process {self.pid} ended with {self.popen.returncode}:\n{self.said()}")

    def kill(self) -> None:
        """SIGKILL to it and all its children at once, as when a machine goes down."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(_STOP_S)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left of its group after 20 s."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(_STOP_S)
        self.kill()


@contextmanager
def running(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path, log: Path
) -> Iterator[Program]:
    """Run the command in `folder` for the length of the block; its output is appended to `log`."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            child_command([str(part) for part in command], death_signal=signal.SIGKILL),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    program = Program(popen, log)
    try:
        yield program
    finally:
        program.stop()


def finished(command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path) -> str:
    """Run the command to its end and return its standard output. Raises ProgramFailed."""
    with subprocess.Popen(
        child_command([str(part) for part in command], death_signal=signal.SIGKILL),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as popen:
        try:
            output, errors = popen.communicate(timeout=_RUN_S)
        finally:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGKILL)
    if popen.returncode != 0:
        raise ProgramFailed(f"{command[0]} ended with {popen.returncode}:\n{output[-_TAIL:]}{errors[-_TAIL:]}")
    return output
