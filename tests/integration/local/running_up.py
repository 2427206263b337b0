"""A `./zh up` in a process of its own, on stand-ins for the parts: the supervisor is tested by itself and quickly."""

# ruff: noqa: TID251 - children inherit the environment

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

DEADLINE_S = 45
CHECKOUT = Path(__file__).parents[3]
T = TypeVar("T")

_PRESENCE = """
import os
from pathlib import Path
from shared.presence import announce
def here() -> None:
    announce(Path(os.environ["ZAPHUB_RUN_DIR"]), os.environ["ZAPHUB_PART"])
"""
_API = """
from presence import here
async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        message = await receive()
        if message["type"] == "lifespan.startup":
            here()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
"""
_WORKER = """
import asyncio
from taskiq import AsyncBroker, TaskiqEvents
from presence import here
class Broker(AsyncBroker):
    async def kick(self, message): pass
    async def listen(self):
        await asyncio.Event().wait()
        yield b""
broker = Broker()
@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _ready(_state): here()
"""
_SCHEDULER = """
from presence import here
from taskiq import TaskiqScheduler
from functions.worker import broker
scheduler = TaskiqScheduler(broker, [])
import os
if os.environ["ZAPHUB_PART"] == "scheduler":
    here()
"""
_SESSION_HOST = """
import signal, threading
from presence import here
here()
signal.sigwait({signal.SIGTERM})
"""


@dataclass
class Up:
    """A `./zh up` in a process of its own, on stand-ins."""

    folder: Path
    packages: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[str] | None" = None

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def ready_file(self) -> Path:
        return self.folder / "ready.json"

    def start(self, *arguments: str, python: str = sys.executable, user: str | None = None) -> "subprocess.Popen[str]":
        self.ready_file.unlink(missing_ok=True)
        files = ["--data-dir", str(self.data_dir), "--ready-file", str(self.ready_file), "--port", "0"]
        # The stand-ins hide the checkout's own api, functions and session_host.
        places = [str(self.folder), str(CHECKOUT), os.environ.get("PYTHONPATH", ""), *self.packages]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [python, "-m", "local.cli", "up", *files, *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )
        return self.process

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8")

    def ready(self) -> dict[str, Any]:
        """Wait until all is ready and return what the ready file says."""
        assert self.process is not None

        def said() -> dict[str, Any] | None:
            assert self.process is not None
            assert self.process.poll() is None, self.output
            return json.loads(self.ready_file.read_bytes()) if self.ready_file.exists() else None

        return until(said, lambda: self.output)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def until(condition: Callable[[], T | None], explain: Callable[[], str] = lambda: "") -> T:
    """Return what the condition returns once it is neither None nor False; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
    return found


def processes_of(folder: Path) -> set[int]:
    """The pids of the processes whose command line, environment or working folder names this folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            about += os.fsencode((entry / "cwd").readlink())
        except OSError:
            continue
        if os.fsencode(folder) in about:
            found.add(int(entry.name))
    return found


def write_stand_ins(folder: Path) -> None:
    """Put packages in the folder that hide the checkout's own parts from whoever runs there."""
    files = {
        "presence.py": _PRESENCE,
        "api/app.py": _API,
        # How uvicorn is started is not stood in for.
        "api/patient_http.py": (CHECKOUT / "api" / "patient_http.py").read_text(encoding="utf-8"),
        "functions/worker.py": _WORKER,
        "functions/scheduler.py": _SCHEDULER,
        "session_host/__main__.py": _SESSION_HOST,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
