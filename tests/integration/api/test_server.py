"""The API behind a real uvicorn on a real socket: bodies too large, bytes that are no HTTP, a stop during a wait."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.part import api_command
from tests.integration.api.conftest import ADMIN_KEY

_KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def exchange(self, *parts: bytes) -> bytes:
        """Send bytes as they are and read until the server closes."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=10)) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = b""
            while data := connection.recv(65_536):
                answer += data
            return answer


@contextmanager
def serving(database_url: str, folder: Path, **settings: str) -> Iterator[Server]:
    """The API as `./zh api` starts it, with more settings when some are given; its log is in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("wb") as log:
        environment = {
            **os.environ,  # noqa: TID251 - the child runs in ours
            "ZAPHUB_DATABASE_URL": database_url,
            "ZAPHUB_TRANSPORT": "memory",
            "ZAPHUB_ADMIN_KEY": ADMIN_KEY,
            "ZAPHUB_SECRET_KEY": "secret-key-of-the-tests",
            "ZAPHUB_RUN_DIR": str(folder),
            "ZAPHUB_PART": "api",
            **{f"ZAPHUB_{name.upper()}": value for name, value in settings.items()},
        }
        process = subprocess.Popen(
            [*api_command(host="127.0.0.1", port=0), "--fd", str(listening.fileno())],
            pass_fds=[listening.fileno()],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        port = listening.getsockname()[1]
        try:
            _wait_until_it_answers(process, port)
            yield Server(process, port)
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    """The socket listens before the process does, so a request waits for as long as the start takes."""
    for _ in range(30):
        with suppress(httpx.TimeoutException):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1)
            return
        assert process.poll() is None, "it ended before it answered; its log says why"
    raise TimeoutError("it did not answer within 30 s")


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    with serving(database_url, tmp_path) as server:
        yield server


def test_it_announces_the_process_that_does_the_work(server: Server, tmp_path: Path) -> None:
    assert json.loads((tmp_path / "api.json").read_text())["pid"] == server.process.pid


def test_bytes_that_are_no_request_get_no_trace(server: Server) -> None:
    head = f"Host: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Type: application/json\r\n".encode()
    requests = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /connections HTTP/1.1\r\n" + head + b"Content-Length: -1\r\n\r\n",
        b"POST /connections HTTP/1.1\r\n" + head + b"Content-Length: x\r\n\r\n",
        b"POST /connections HTTP/1.1\r\n" + head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /connections HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /connections/\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ]
    for request in requests:
        answer = server.exchange(request)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), (request, answer)
        assert b"Traceback" not in answer

    assert httpx.get(f"{server.url}/connections", headers=_KEY).json()["data"] == []


@pytest.mark.parametrize("form", ["declared", "streamed", "absurd"])
def test_a_body_over_the_limit_gets_its_answer_over_the_wire(server: Server, form: str) -> None:
    head = (
        f"POST /connections HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n"
    ).encode()
    big = b" " * 3_000_000
    match form:
        case "declared":
            answer = server.exchange(head + b"Content-Length: 3000000\r\n\r\n", big)
        case "streamed":
            chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            answer = server.exchange(head + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 40, b"0\r\n\r\n")
        case _:
            answer = server.exchange(head + b"Content-Length: 1000000000000\r\n\r\n", b"{")

    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert b"BODY_TOO_LARGE" in answer
    assert httpx.get(f"{server.url}/connections", headers=_KEY).json()["data"] == []


def test_a_stop_ends_those_who_wait(server: Server) -> None:
    created: dict[str, Any] = httpx.post(f"{server.url}/connections", json={"label": "a"}, headers=_KEY).json()
    path = f"/connections/{created['connection']['id']}/qr?wait=25"
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as waiting:
        waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\r\n".encode())
        # Answered on another connection after it, so the waiting one is being served by now.
        httpx.get(f"{server.url}/healthz")

        server.process.send_signal(signal.SIGTERM)
        assert waiting.recv(65_536).startswith(b"HTTP/1.1 409")

    assert server.process.wait(timeout=5) in {0, -signal.SIGTERM}
