"""Runs in_library.py in a process of its own, which loads the Go library."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_what_needs_the_librarys_own_classes() -> None:
    # The library's own imports start programs and forget their pipes.
    tolerant = ["-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tolerant, str(HERE / "in_library.py")],
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
