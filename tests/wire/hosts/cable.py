"""A network cable between one host and Postgres, which a test can unplug."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

_POSTGRES = 5432


class Cable:
    """Carries connections until it is unplugged; then they stay open, and nothing comes through either way.

    In threads, as a test's own calls may keep its loop busy.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        [folder] = parse_qs(parts.query).get("host", [""])
        self._unix = f"{folder}/.s.PGSQL.{parts.port or _POSTGRES}" if folder else None
        self._target = (parts.hostname or "127.0.0.1", parts.port or _POSTGRES)
        self._is_plugged = threading.Event()
        self._is_plugged.set()
        self._ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        login = (parts.username or "") + (f":{parts.password}" if parts.password else "")
        self.url = f"postgresql://{login}@127.0.0.1:{self._server.getsockname()[1]}{parts.path}?sslmode=disable"

    def unplug(self) -> None:
        self._is_plugged.clear()

    def plug_in(self) -> None:
        self._is_plugged.set()

    @contextmanager
    def laid(self) -> Iterator["Cable"]:
        """Carry while the context lasts."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self.plug_in()
            for end in (self._server, *self._ends):
                _hang_up(end)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            there = socket.socket(socket.AF_UNIX) if self._unix else socket.socket()
            there.connect(self._unix or self._target)
            self._ends += [here, there]
            for ends in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._is_plugged.wait()
                sink.sendall(chunk)
        for end in (source, sink):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
