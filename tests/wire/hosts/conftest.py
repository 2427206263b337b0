"""Several session hosts on one database, against the fake WhatsApp server."""

import socket

import pytest

from tests.wire.session_host.conftest import fake, stage, start_host

__all__ = ["fake", "free_port", "stage", "start_host"]


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
