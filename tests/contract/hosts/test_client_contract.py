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
    assert f"{len(CLAUSES)} passed" in ran.stdout
