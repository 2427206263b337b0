"""Real `taskiq worker` processes for tests: started, found by the pid that runs jobs, ended by pid."""

# ruff: noqa: TID251 - a child process gets this process's environment

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


@dataclass
class WorkerProcess:
    """A manager (`popen`) and its child, which runs the jobs and announces itself in `run_dir`."""

    popen: "subprocess.Popen[bytes]"
    run_dir: Path
    log: Path

    def child_pid(self, *, other_than: int | None = None, within_s: float = 15) -> int:
        """The announced child; waits for it."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            file = self.run_dir / "worker.json"
            if file.exists() and (pid := int(json.loads(file.read_text())["pid"])) != other_than:
                return pid
            if self.popen.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no worker: {self.log.read_text()[-3000:]}")

    def stop(self, *, within_s: float = 20) -> int:
        """SIGTERM to the manager; the exit code. Fails when it takes longer than that."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(within_s)

    def lines(self) -> list[dict[str, object]]:
        """The log's JSON lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def worker_process(target: str, environment: dict[str, str], folder: Path) -> Iterator[WorkerProcess]:
    """Start `taskiq worker target --workers 1`, and end it whatever happens."""
    folder.mkdir(parents=True)
    log = folder / "log"
    taskiq = Path(sys.executable).with_name("taskiq")
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [taskiq, "worker", target, "--workers", "1"],
            cwd=REPOSITORY,
            env={**os.environ, **environment, "ZAPHUB_RUN_DIR": str(folder), "PYTHONPATH": _path()},
            stdout=output,
            stderr=output,
        )
    try:
        yield WorkerProcess(popen=popen, run_dir=folder, log=log)
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(10)
            except subprocess.TimeoutExpired:
                _kill_child(folder)
                popen.kill()
                popen.wait(5)


def _kill_child(run_dir: Path) -> None:
    with suppress(OSError, ValueError):
        os.kill(int(json.loads((run_dir / "worker.json").read_text())["pid"]), signal.SIGKILL)


def _path() -> str:
    # The app's own folder: some installed package brings a `tests` of its own, which would win over ours.
    parts = (str(Path(__file__).parent), str(REPOSITORY), os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(part for part in parts if part)
