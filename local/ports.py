"""Which TCP ports are free on this machine."""

import errno
import random
import socket
from typing import Final

# Below what systems hand out to outgoing connections, one of which might hold the port while its server restarts.
_OURS: Final = range(20_000, 32_768)
_TRIES: Final = 100


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError when `host` is no address of this machine."""
    with _listener(host) as candidate:
        try:
            candidate.bind((host, port))
        except PermissionError:
            return False
        except OSError:
            # The host is wrong, rather than the port taken, when no port of it can be had.
            free_port(host)
            return False
    return True


def free_port(host: str) -> int:
    """Return a port that was free a moment ago. Raises OSError when `host` is no address of this machine."""
    for port in random.sample(_OURS, _TRIES):
        with _listener(host) as candidate:
            try:
                candidate.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(errno.EADDRINUSE, f"no port from {_OURS.start} to {_OURS.stop - 1} was free")


def _listener(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # As the API's own socket does, or a port closed a moment ago would look taken.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
