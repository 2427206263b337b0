"""Clients that drip: a head or a body that does not come in time is answered 408, and others are served meanwhile."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.api.test_server import Server, serving

_KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
_BODY = b'{"label": "abc"}' + b" " * 1000
_HEAD = (
    f"POST /connections HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n"
).encode()


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    with serving(database_url, tmp_path, api_header_timeout_s="1", api_body_timeout_s="1") as server:
        yield server


def _dripped(server: Server, start: bytes, drip: bytes) -> bytes:
    """What is answered to a client that sends `start`, then a piece of `drip` each 50 ms until it is cut off."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=0.05)) as connection:
        connection.sendall(start)
        answer = b""
        for _ in range(400):  # far more than the time that it has
            try:
                data = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(drip)
                continue
            except ConnectionResetError:
                return answer
            if not data:
                return answer
            answer += data
    raise AssertionError("the server waits for ever")


def test_a_head_that_drips_is_cut_off(server: Server) -> None:
    answer = _dripped(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"X-Drip: 1\r\n")

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


def test_a_connection_that_says_nothing_is_closed(server: Server) -> None:
    assert _dripped(server, b"", b"") == b""


def test_a_second_head_that_drips_is_cut_off_too(server: Server) -> None:
    answer = _dripped(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\n", b"X-Drip: 1\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 2
    assert b"HTTP/1.1 408" in answer


def test_a_body_that_drips_is_answered_and_changes_nothing(server: Server) -> None:
    answer = _dripped(server, _HEAD + _BODY[:9], b" ")

    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b"REQUEST_TIMEOUT" in answer
    assert httpx.get(f"{server.url}/connections", headers=_KEY).json()["data"] == []


def test_a_body_that_never_comes_is_answered(server: Server) -> None:
    assert _dripped(server, _HEAD, b"").startswith(b"HTTP/1.1 408")


def test_hundreds_of_slow_clients_keep_nobody_else_waiting(server: Server) -> None:
    with ExitStack() as held:
        for number in range(300):
            slow = held.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)))
            slow.sendall(_HEAD if number % 2 else b"GET /healthz HTTP/1.1\r\nHost:")

        answers = [httpx.get(f"{server.url}/connections", headers=_KEY) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}


def test_a_request_in_pieces_that_comes_in_time_is_served(server: Server) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        for piece in (_HEAD[:20], _HEAD[20:], _BODY[:9], _BODY[9:]):
            connection.sendall(piece)

        assert connection.recv(65_536).startswith(b"HTTP/1.1 202")


def test_a_head_without_an_end_is_cut_off(server: Server) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        with suppress(ConnectionError):
            for _ in range(400):  # 400 KB, far more than a head may have
                connection.sendall(b"X-Long: " + b"x" * 1000 + b"\r\n")
        with suppress(ConnectionResetError):
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 431") or answer == b"", answer

    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_headers_behind_the_body_are_no_headers(server: Server) -> None:
    # Whoever adds a header behind the body gets past a proxy that sees to the head.
    head = (
        b"POST /connections HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b'10\r\n{"label": "abc"}\r\n0\r\n'
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        connection.sendall(head + body + f"Authorization: Bearer {ADMIN_KEY}\r\n\r\n".encode())

        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
