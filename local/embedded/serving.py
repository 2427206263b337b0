"""Runs one embedded server for the length of a `with` block: tests and single commands; `up` has the supervisor."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shared.domain.errors import Unavailable

_POLL_S = 0.01


class ServerFailed(Unavailable):
    """An embedded server did not start; the text carries the end of its log."""


class EmbeddedServer(Protocol):
    """What starting and stopping a server takes; `postgres.prepare` and `valkey.prepare` return one."""

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that makes it finish cleanly."""

    def command(self) -> list[str]:
        """Return the command line that runs it in the foreground."""

    def is_ready(self, pid: int) -> bool:
        """Whether the process `pid` answers clients now."""


@contextmanager
def serving(server: EmbeddedServer, *, log: Path, start_s: float = 30, stop_s: float = 20) -> Iterator[int]:
    """Run the server, yield its pid once it is ready, and stop it at the end.

    Raises ServerFailed when it ends, or is not ready, within `start_s` seconds. One that ignores its stop signal for
    `stop_s` seconds is killed. Must be entered on the main thread: the server dies with the thread that started it.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        deadline = time.monotonic() + start_s
        while not server.is_ready(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise ServerFailed(f"{server.command()[-1]} did not become ready.\n{tail}")
            time.sleep(_POLL_S)
        yield process.pid
    finally:
        process.send_signal(server.stop_signal)
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
