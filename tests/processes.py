"""Processes that a test stops for a while, as a machine that hangs does: connections stay, answers do not come."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def parent_of(pid: int) -> int:
    """The pid of its parent. Linux only."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


@contextmanager
def stopped(leader: int) -> Iterator[None]:
    """Stop a process and its children, and let them go on afterwards. Linux only."""
    pids = [leader]
    # The leader first, so that it has no further child.
    os.kill(leader, signal.SIGSTOP)
    try:
        pids += map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text(encoding="utf-8").split())
        for pid in pids[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
