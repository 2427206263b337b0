"""A real session host in child processes, on a fresh database, against the fake WhatsApp server."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from shared.db.pool import open_pool
from shared.hosts.client import HostClient, open_http
from tests.wire.session_host.stage import HOST_TOKEN, REPO, FakeServer, HostProcess, Stage


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """One fake WhatsApp server for the module."""
    folder = tmp_path_factory.mktemp("fake")
    with (folder / "log").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.fake_whatsapp", "--data-dir", str(folder / "data")],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        server = FakeServer(json.loads(line)["control_url"])
        yield server
        server.close()
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def start_host(
    database_url: str, redis_url: str, fake: FakeServer, tmp_path: Path
) -> Iterator[Callable[..., HostProcess]]:
    """Return a function that starts a host; each is stopped at the end of the test. They share a data directory."""
    started: list[HostProcess] = []

    def start(**extra: str) -> HostProcess:
        folder = tmp_path / f"host-{len(started) + 1}"
        folder.mkdir()
        environment = {
            "ZAPHUB_DATABASE_URL": database_url,
            "ZAPHUB_REDIS_URL": redis_url,
            "ZAPHUB_SECRET_KEY": "a-secret-key-for-tests",
            "ZAPHUB_HOST_TOKEN": HOST_TOKEN,
            "ZAPHUB_DATA_DIR": str(tmp_path / "data"),
            "ZAPHUB_FAKE_WHATSAPP_URL": fake.url,
            "ZAPHUB_HOST_LEASE_S": "3",
            "ZAPHUB_FAILPOINT_DIR": str(folder),
            **extra,
        }
        host = HostProcess(folder, environment)
        started.append(host)
        return host

    yield start
    for host in started:
        host.end()
        sys.stdout.write(f"--- {host.run_dir.name}\n{host.log.read_text()[-6000:]}\n")


@pytest.fixture
async def stage(database_url: str, fake: FakeServer) -> AsyncIterator[Stage]:
    """A database with nothing on it yet."""
    pool = await open_pool(database_url, max_size=4)
    async with open_http(HOST_TOKEN) as http:
        yield Stage(pool, HostClient(pool, http, send_timeout_s=90), fake)
    fake.clear_faults()
    await pool.close()
