"""pg_dump and pg_restore: one snapshot of the whole database, with the library's keys of every session in it."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from local.child_process import child_command
from local.embedded.binaries import wheel_programs
from local.environment import inherited
from shared.domain.errors import Misconfigured

_LOOK_EVERY_S: Final = 0.5
_LAST_LINES: Final = 8


class DatabaseToolFailed(Misconfigured):
    """pg_dump or pg_restore refused; the text carries its own words."""


def dump(database_url: str, target: Path, *, server_major: int, progress: Callable[[int], None]) -> None:
    """Write one consistent snapshot of the database to `target`, while others go on using it.

    Raises ProgramMissing without a pg_dump that is new enough, DatabaseToolFailed for what it says.
    """
    program = _program("pg_dump", server_major)
    options = ["--format=custom", "--no-owner", "--no-privileges", "--lock-wait-timeout=60s", f"--file={target}"]
    _run([program, *options], database_url, watch=lambda: progress(target.stat().st_size if target.exists() else 0))


def load(database_url: str, source: Path, *, server_major: int, progress: Callable[[int], None]) -> None:
    """Fill an empty database from a dump, in one transaction: all of it or nothing. Raises as `dump` does."""
    program = _program("pg_restore", server_major)
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(source)]
    _run([program, *options], database_url, watch=lambda: progress(0))


def _run(command: list[str], database_url: str, *, watch: Callable[[], None]) -> None:
    url, password = _without_password(database_url)
    environment = inherited() | ({} if password is None else {"PGPASSWORD": password})
    process = subprocess.Popen(
        child_command([command[0], f"--dbname={url}", *command[1:]]),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = _until_ended(process, watch)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        last = "\n".join(said.splitlines()[-_LAST_LINES:])
        raise DatabaseToolFailed(f"{Path(command[0]).name} failed, and nothing was changed:\n{last}")


def _until_ended(process: "subprocess.Popen[str]", watch: Callable[[], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=_LOOK_EVERY_S)[1]
        except subprocess.TimeoutExpired:
            watch()


def _without_password(database_url: str) -> tuple[str, str | None]:
    """The URL for a command line, which everybody on the machine can read, and the password beside it."""
    parts = urlsplit(database_url)
    if parts.password is None:
        return database_url, None
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{place}")), unquote(parts.password)


def _program(name: str, server_major: int) -> str:
    """The oldest of the programs on this machine that is as new as the server: a dump fits its own version best."""
    folders = [wheel_programs(), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    found = {_major(folder / name): folder / name for folder in folders if folder and (folder / name).is_file()}
    if on_path := shutil.which(name):
        found.setdefault(_major(Path(on_path)), Path(on_path))
    fitting = sorted(major for major in found if major >= server_major)
    if not fitting:
        raise Misconfigured(
            f"No {name} of Postgres {server_major} or newer was found, and the server is Postgres {server_major}. "
            f"Debian, Ubuntu: apt-get install postgresql-client-{server_major}."
        )
    return str(found[fitting[0]])


def _major(program: Path) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    number = re.search(r"\) (\d+)", said.stdout)
    return int(number[1]) if number else 0


class Shown:
    """Bytes done, on standard error, at most twice a second, on one line of a terminal; else nothing until the end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = time.monotonic()
        self._is_terminal = os.isatty(2)
        self._has_shown = False

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if self._is_terminal and now - self._last >= _LOOK_EVERY_S:
            self._last, self._has_shown = now, True
            os.write(2, f"\r  {self._what}: {count / 1e6:,.1f} MB ".encode())

    def end(self) -> None:
        """Leave the line."""
        if self._has_shown:
            os.write(2, b"\r\x1b[K")
