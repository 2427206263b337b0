"""The client's contract on the simulated WhatsApp, and on neonize against the fake server in a process of its own.

A process can load the library once and point it at one server, and a fault in it ends the process.
"""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.hosts.client_contract import CLAUSES
from tests.contract.hosts.worlds import REPO, SimulatedWorld, World

Clause = Callable[[World, str], Awaitable[None]]

# As `python -m`, in spite of a wheel that brings a package `tests` of its own.
_RUN = """
import runpy, sys, types
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = ["tests"]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
async def test_the_simulated_client(clause: Clause) -> None:
    await clause(SimulatedWorld(), "5511988880001")


@pytest.mark.wire
def test_neonize_keeps_the_same_contract() -> None:
    # The library's own imports start programs and forget their pipes.
    tolerant = ["-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tolerant, str(Path(__file__).with_name("neonize_process.py"))],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    # And what there is to say of neonize alone.
    assert f"{len(CLAUSES) + 1} passed" in ran.stdout


@pytest.mark.wire
def test_a_client_that_is_stopped_while_its_code_is_scanned_does_not_end_the_process(
    database_url: str, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, "tests.contract.hosts.stopped_while_scanned", database_url, str(tmp_path)],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0
