"""An embedded Valkey: durable, on a unix socket, and never evicting."""

import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from local.child_process import child_command
from local.embedded.binaries import find_valkey

_ANSWER_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """A Valkey that is ready to be started on its data folder."""

    program: Path
    data: Path
    socket: Path
    durable: bool

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that makes it write its log out and end."""
        return signal.SIGTERM

    @property
    def url(self) -> str:
        """The URL that redis clients take; database 0."""
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        """Return the command line that runs it in the foreground."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": "",
            # An evicted key is a lost bell at best. A full server that says so is seen.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return child_command([str(self.program), *options], death_signal=self.stop_signal)

    def is_ready(self, pid: int) -> bool:  # noqa: ARG002 - the socket's folder is new at each start, so it is this one's
        """Whether it answers PING; not while it still loads its log."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_ANSWER_TIMEOUT_S)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def prepare(data: Path, *, sockets: Path, durable: bool = True) -> EmbeddedValkey:
    """Make the data folder and return the server to start.

    `sockets` is a short path, as a unix socket's is at most 103 bytes. With `durable=False` nothing is written to disk.
    Raises ProgramMissing when there is no server program.
    """
    program = find_valkey()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = sockets / "valkey.sock"
    # A killed server leaves its socket file behind, which would look like a server that does not answer.
    path.unlink(missing_ok=True)
    return EmbeddedValkey(program=program, data=data, socket=path, durable=durable)
