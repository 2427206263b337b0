"""BullMQ as a contender, on Valkey and on Postgres, and how its packages get here."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from hashlib import blake2s
from pathlib import Path
from typing import Any, Final

from local.bench.contender import Command, Work
from local.bench.producing import Order
from local.bench.program import ProgramFailed, finished
from local.bench.stand import CACHE, Stand
from local.environment import CHECKOUT, inherited

SOURCES: Final = CHECKOUT / "tests" / "bench"
# BullMQ on Postgres works a tenth as fast.
_POSTGRES_SCALE: Final = 0.15
# How soon it notices a dead worker: what its documentation names, as short as a careful operator may set them.
TUNED: Final = {"lockDuration": 5000, "stalledInterval": 2000}


class PeerMissing(Exception):
    """A peer cannot be measured on this machine; the text says why."""


def install_node_peers() -> Path:
    """The folder with the peers' programs and packages, installed by npm unless they are there already.

    Raises PeerMissing without node and npm, or when npm cannot install.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise PeerMissing("node and npm are not on PATH")
    package = SOURCES / "package.json"
    folder = CACHE / f"node-{blake2s(package.read_bytes(), digest_size=6).hexdigest()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "installed").exists():
        shutil.copy(package, folder)
        # No lock file: it would name this machine's registry.
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        try:
            finished([npm, "install", *quiet], environment=inherited(), folder=folder)
        except ProgramFailed as error:
            raise PeerMissing(f"npm could not install BullMQ: {error.detail[-300:]}") from error
        (folder / "installed").touch()
    for name in ("bullmq", "seed_node"):
        shutil.copytree(SOURCES / name, folder / name, dirs_exist_ok=True)
    return folder


@dataclass(slots=True)
class BullMQ:
    """BullMQ as its documentation has it; `options` are the worker's own, `on_postgres` its second backend."""

    stand: Stand
    folder: Path
    name: str = "bullmq"
    on_postgres: bool = False
    options: dict[str, int] = field(default_factory=dict)
    database_url: str = field(default="", init=False)

    @property
    def jobs_scale(self) -> float:
        """On Postgres it is given fewer jobs."""
        return _POSTGRES_SCALE if self.on_postgres else 1.0

    def reset(self) -> None:
        """Flush Valkey, or migrate a fresh database."""
        if not self.on_postgres:
            self.stand.flush_valkey()
            return
        self.database_url = self.stand.new_database(is_ours=False)
        command = self._command("migrate", {})
        finished(command.words, environment=self.stand.environment(), folder=self.folder)

    def producer(self, order: Order) -> Command:
        """`add` one by one, `addBulk` of 500."""
        return self._command("produce", asdict(order))

    def worker(self, work: Work) -> Command:
        """One Worker in one process."""
        spec = {"concurrency": work.concurrency, "records": str(work.records), "immediate": work.is_immediate}
        return self._command("work", spec | {"options": self.options})

    def stored_bytes(self) -> int:
        """Valkey's memory, or tables and indexes."""
        return self.stand.database_bytes(self.database_url) if self.on_postgres else self.stand.valkey_bytes()

    def _command(self, verb: str, spec: dict[str, Any]) -> Command:
        where = {"postgres": self.database_url} if self.on_postgres else {"redis": str(self.stand.valkey.socket)}
        words: list[str | Path] = ["node", self.folder / "bullmq" / "peer.mjs", verb, json.dumps(spec | where)]
        return Command(words=words, environment={"NODE_ENV": "production"})
