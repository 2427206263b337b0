"""Procrastinate as a contender, in a virtual environment of its own."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from hashlib import blake2s
from pathlib import Path
from typing import Any

from local.bench.contender import Command, Work
from local.bench.node_peers import SOURCES, PeerMissing
from local.bench.producing import Order
from local.bench.program import ProgramFailed, finished
from local.bench.stand import CACHE, Stand
from local.environment import CHECKOUT, inherited

_SOURCE = SOURCES / "procrastinate"


def install_procrastinate() -> Path:
    """The Python of an environment that has it, made by uv with pinned hashes unless it is there already.

    Raises PeerMissing without uv, or when uv cannot install.
    """
    uv = shutil.which("uv") or shutil.which(CHECKOUT / ".boot" / "bin" / "uv")
    if uv is None:
        raise PeerMissing("uv is neither on PATH nor in .boot/bin")
    pins = _SOURCE / "requirements.txt"
    folder = CACHE / f"procrastinate-{blake2s(pins.read_bytes(), digest_size=6).hexdigest()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    if not (folder / "installed").exists():
        target = {"VIRTUAL_ENV": str(folder / "venv")}
        try:
            finished([uv, "venv", "--quiet", "--clear", folder / "venv"], environment=inherited(), folder=folder)
            install: list[str | Path] = [uv, "pip", "install", "--quiet", "--require-hashes", "-r", pins]
            finished(install, environment=inherited() | target, folder=folder)
        except ProgramFailed as error:
            raise PeerMissing(f"uv could not install Procrastinate: {error.detail[-300:]}") from error
        (folder / "installed").touch()
    return python


@dataclass(slots=True)
class Procrastinate:
    """Its asynchronous worker on psycopg, successful jobs deleted."""

    stand: Stand
    python: Path
    name: str = "procrastinate"
    jobs_scale: float = 0.06
    database_url: str = field(default="", init=False)

    def reset(self) -> None:
        """Migrate a fresh database."""
        self.database_url = self.stand.new_database(is_ours=False)
        command = self._command("migrate", {})
        environment = self.stand.environment() | dict(command.environment)
        finished(command.words, environment=environment, folder=self.stand.folder)

    def producer(self, order: Order) -> Command:
        """`defer_async` one by one, `batch_defer_async` of 500."""
        return self._command("produce", asdict(order))

    def worker(self, work: Work) -> Command:
        """One worker in one process."""
        spec = {"concurrency": work.concurrency, "records": str(work.records), "immediate": work.is_immediate}
        return self._command("work", spec)

    def stored_bytes(self) -> int:
        """Tables and indexes."""
        return self.stand.database_bytes(self.database_url)

    def _command(self, verb: str, spec: dict[str, Any]) -> Command:
        text = json.dumps(spec | {"postgres": self.database_url})
        words: list[str | Path] = [self.python, _SOURCE / "peer.py", verb, text]
        return Command(words=words, environment={"PYTHONPATH": str(CHECKOUT)})
