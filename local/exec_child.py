"""Exec a command that dies with its parent and, when told so, runs as an unprivileged account.

Run by path with `python -I -S`, before any thread exists, which is what a `preexec_fn` cannot promise:

    exec_child.py PARENT_PID SIGNAL IDENTITY COMMAND [ARGUMENT …]

`IDENTITY` is `same`, `account:UID:GID` (give up root for that account) or `namespace:UID:GID` (a user namespace in
which this user looks like that account, so that files stay this user's). Standard library only.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 126


def main(arguments: list[str]) -> None:
    """Become the command; never returns."""
    parent, death_signal, identity, *command = arguments
    try:
        _take(identity)
        # After the change of identity, which would clear it. Before the look at the parent, which may be gone by now.
        _die_with_parent(int(death_signal))
        if os.getppid() != int(parent):
            sys.exit(_CANNOT_RUN)
        # The interpreter ignores these two, and an ignored signal stays ignored through exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - an argument vector, and this program exists to exec it
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        sys.exit(_CANNOT_RUN)


def _take(identity: str) -> None:
    kind, *ids = identity.split(":")
    if kind == "same":
        return
    uid, gid = (int(part) for part in ids)
    if kind == "account":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        return
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER))
    # The kernel accepts a group map from an unprivileged writer only once setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", encoding="ascii")


def _die_with_parent(death_signal: int) -> None:
    # Elsewhere the next start finds the orphan and stops it: see local/embedded/postgres.py.
    if sys.platform == "linux":
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
