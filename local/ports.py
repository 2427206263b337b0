"""Which TCP ports are free on this machine."""

import socket


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
    with _listener(host) as candidate:
        candidate.bind((host, 0))
        return int(candidate.getsockname()[1])


def _listener(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # As the API's own socket does, or a port closed a moment ago would look taken.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
