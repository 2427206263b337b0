"""The connector refuses what could reach a real server."""

import subprocess
import sys

import pytest

from local.fake_whatsapp import connector
from local.fake_whatsapp.connector import Connector, NotConnectable


@pytest.fixture(autouse=True)
def _without_neonize(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "neonize"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("url", ["http://example.com:80", "http://10.0.0.1", "http://0.0.0.0:1", "not a url"])
def test_a_server_that_is_not_on_loopback_is_refused(url: str) -> None:
    with pytest.raises(NotConnectable, match="not on loopback"):
        connector.prepare(url)


def test_it_refuses_to_come_after_neonize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neonize", sys)

    with pytest.raises(NotConnectable, match="loaded already"):
        connector.prepare("http://127.0.0.1:1")


def test_it_refuses_to_patch_a_process_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "library_segments", list)

    with pytest.raises(NotConnectable, match="in 0 places"):
        connector.patch(Connector("http://127.0.0.1:1", "", bytes(32)))


@pytest.mark.skipif(sys.platform != "linux", reason="the environment block is Linux's")
def test_a_shown_variable_reaches_the_initial_environment_block_and_not_python() -> None:
    code = (
        "import os\n"
        "from local.fake_whatsapp import go_environment\n"
        "before = os.environ.get('SSL_CERT_FILE')\n"
        "go_environment.show('SSL_CERT_FILE', '/somewhere/ca.pem')\n"
        "import ctypes\n"
        "at = go_environment._entries()['SSL_CERT_FILE']\n"
        "print(ctypes.string_at(ctypes.c_void_p.from_address(at).value).decode())\n"
        "assert os.environ.get('SSL_CERT_FILE') == before\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.getenv.restype = ctypes.c_char_p\n"
        "assert (libc.getenv(b'SSL_CERT_FILE') or b'').decode() == (before or '')\n"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout

    assert shown.strip() == "SSL_CERT_FILE=/somewhere/ca.pem"
