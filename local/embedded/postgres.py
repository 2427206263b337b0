"""An embedded Postgres: a data folder, a private unix socket, no TCP port, stopped with its parent."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.child_process import Identity, child_command
from local.embedded import orphan
from local.embedded.binaries import PostgresPrograms, find_postgres
from local.embedded.unprivileged import Placement, place
from shared.domain.errors import Misconfigured

# The Go store of the session hosts opens connections of its own and keeps them; the rest is our pools.
MAX_CONNECTIONS = 300
_SETUP_TIMEOUT_S = 120
# initdb --sync-only with one syncfs call instead of an fsync per file.
_FIRST_WITH_SYNCFS = 17


class DataFolderUnusable(Misconfigured):
    """The data folder cannot be served as it is; the text says what to do about it."""


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A Postgres whose data folder is initialised and that is ready to be started."""

    programs: PostgresPrograms
    cluster: Path
    sockets: Path
    identity: Identity
    durable: bool

    @property
    def stop_signal(self) -> signal.Signals:
        """SIGINT: disconnect everyone, checkpoint, end. SIGTERM would wait for clients to leave."""
        return signal.SIGINT

    def url(self, database: str = "zaphub") -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://zaphub@/{database}?host={self.sockets}"

    def command(self) -> list[str]:
        """Return the command line that runs it in the foreground."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Statements of a queue are short: compiling one costs more than it saves.
            "jit": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            # With nothing to replicate to, a test's copy of a database writes no log.
            settings |= {"wal_level": "minimal", "max_wal_senders": "0"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.programs.folder / "postgres"), "-D", str(self.cluster), *options]
        return child_command(command, death_signal=self.stop_signal, identity=self.identity)

    def is_ready(self, pid: int) -> bool:
        """Whether the server `pid` says in its lock file that it takes connections."""
        return orphan.read_lock_file(self.cluster) == orphan.LockFile(pid=pid, is_ready=True)


def prepare(data: Path, *, sockets: Path, durable: bool = True) -> EmbeddedPostgres:
    """Make `data` hold a Postgres cluster that nobody serves, and return the server to start.

    The first call initialises it, which takes a second or two; later ones cost a process start. A server of ours that
    outlived its parent is stopped. `sockets` is an empty 0700 folder with a short path. With `durable=False` nothing
    waits for the disk and a power cut may corrupt the data: for tests.
    Raises ProgramMissing without a Postgres, DataFolderUnusable for a folder of another major version.
    The caller holds a lock on the data folder: two calls at once are not safe.
    """
    programs = find_postgres()
    placement = place(data, programs=programs)
    cluster = placement.folder / "cluster"
    _refuse_other_major(cluster, programs)
    orphan.stop(cluster)
    if not cluster.exists():
        _initialise(cluster, placement, durable=durable)
    if placement.identity.kind == "account":
        os.chown(sockets, placement.identity.uid, placement.identity.gid)
    return EmbeddedPostgres(
        programs=placement.programs,
        cluster=cluster,
        sockets=sockets,
        identity=placement.identity,
        durable=durable,
    )


def _refuse_other_major(cluster: Path, programs: PostgresPrograms) -> None:
    try:
        found = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return
    if found != str(programs.major):
        msg = (
            f"{cluster} was made by Postgres {found}, and this ZapHub runs Postgres {programs.major}. "
            f"To keep the data, serve it with a Postgres {found} of your own and set ZAPHUB_DATABASE_URL to that. "
            f"To begin afresh, move it away: mv {cluster} {cluster}.{found}"
        )
        raise DataFolderUnusable(msg)


def _initialise(cluster: Path, placement: Placement, *, durable: bool) -> None:
    # Made beside its place and renamed at the end, so that an interrupted start is never taken for a data folder.
    unfinished = cluster.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    initdb = str(placement.programs.folder / "initdb")
    postgres = str(placement.programs.folder / "postgres")
    encoding = ["--encoding=UTF8", "--no-locale"]
    # Trust is safe behind a socket in a folder that only this user can enter.
    owner = ["--username=zaphub", "--auth=trust"]
    _set_up([initdb, "-D", str(unfinished), *encoding, *owner, "--no-sync"], placement)
    _set_up([postgres, "--single", "-F", "-D", str(unfinished), "postgres"], placement, "CREATE DATABASE zaphub")
    if durable:
        # Once for the whole folder, which takes a third of the time of initdb's own way.
        quickly = placement.programs.major >= _FIRST_WITH_SYNCFS and sys.platform == "linux"
        method = ["--sync-method=syncfs"] if quickly else []
        _set_up([initdb, "-D", str(unfinished), "--sync-only", *method], placement)
    unfinished.rename(cluster)


def _set_up(command: list[str], placement: Placement, script: str = "") -> None:
    done = subprocess.run(
        child_command(command, identity=placement.identity),
        input=script,
        capture_output=True,
        text=True,
        timeout=_SETUP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        msg = f"{Path(command[0]).name} failed on {placement.folder}:\n{done.stdout}{done.stderr}"
        raise DataFolderUnusable(msg)
