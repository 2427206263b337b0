"""How a child of ours is started: it dies with us, in its own process group, as the account it is told."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_EXEC_CHILD = Path(__file__).with_name("exec_child.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rights a child has: `same` as ours, another `account`, or ours seen through a user `namespace`."""

    kind: str
    uid: int = 0
    gid: int = 0

    def __str__(self) -> str:
        """Return the spelling that exec_child.py reads."""
        return self.kind if self.kind == "same" else f"{self.kind}:{self.uid}:{self.gid}"


SAME = Identity("same")


def child_command(
    command: list[str], *, death_signal: signal.Signals = signal.SIGTERM, identity: Identity = SAME
) -> list[str]:
    """Return the command line that runs `command` so that it gets `death_signal` when we die.

    "We" is the thread that starts it: start children from the main thread. Linux only; elsewhere the child lives on.
    """
    interpreter = [sys.executable, "-I", "-S", str(_EXEC_CHILD)]
    return [*interpreter, str(os.getpid()), str(int(death_signal)), str(identity), *command]
