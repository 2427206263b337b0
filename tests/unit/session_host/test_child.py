"""How a child ends."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]

_A_FAULT = """
import asyncio, os, sys, threading
from session_host import child

async def fail(*_, **__):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    raise ValueError

child._run = fail
sys.argv[1:] = ["--number", "1", "--parent", str(os.getppid()), "--host", "a"]
child.main()
"""


def test_a_child_that_fails_ends_though_a_thread_of_the_library_never_does() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _A_FAULT],
        cwd=REPO,
        env={
            "ZAPHUB_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
            "ZAPHUB_SECRET_KEY": "a-secret-key-for-tests",
            "ZAPHUB_TRANSPORT": "memory",
        },
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert (ran.returncode, b"host_child_failed" in ran.stdout) == (1, True), ran.stderr
