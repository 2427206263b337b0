"""Signals that end a command: which, and how."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.environment import CHECKOUT
from local.interruption import stop_signals


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_the_end_of_the_terminal_is_heeded_unless_nohup_has_it_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_runs_every_finally_though_another_one_comes(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import os, signal
from local.interruption import unwinding
with unwinding():
    try:
        os.kill(os.getpid(), {int(number)})
        print("went on")
    finally:
        os.kill(os.getpid(), {int(signal.SIGTERM)})
        print("cleaned up")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout) == (128 + number, "cleaned up\n")
