"""A `./zh up` that leaves nothing behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.running_up import DEADLINE_S, Up, processes_of, write_stand_ins


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A `./zh up` that has not been started; whatever is left of it at the end is killed."""
    write_stand_ins(tmp_path)
    made = Up(folder=tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(DEADLINE_S)
    for pid in processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)
