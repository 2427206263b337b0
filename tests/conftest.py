"""Fixtures that every kind of test may use: the embedded servers, a fresh database, a clean environment.

The servers start when the first test asks for them and are gone at the end of the run.
"""

# ruff: noqa: PLC0415 - a run of unit tests does not load what only the servers need
# ruff: noqa: TID251 - the environment is what is being cleaned here

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from local.embedded.postgres import EmbeddedPostgres
    from local.embedded.valkey import EmbeddedValkey
    from shared.domain.jobs import QueueName

_TEMPLATE = "zaphub_template"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio alone: nothing of ours promises trio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own ZAPHUB_* variables out of every test."""
    for name in [name for name in os.environ if name.startswith("ZAPHUB_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A folder for the embedded servers of this run; its path is short, as a unix socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix="zht-"))
    if os.geteuid() == 0:
        # The account that Postgres runs as, where root cannot, passes through.
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> "Iterator[EmbeddedPostgres]":
    """A Postgres with an empty database `zaphub`; it does not wait for the disk."""
    from local.embedded import postgres
    from local.embedded.serving import serving

    sockets = server_dir / "postgres-socket"
    sockets.mkdir(mode=0o700)
    server = postgres.prepare(server_dir / "postgres", sockets=sockets, durable=False)
    with serving(server, log=server_dir / "postgres.log"):
        yield server


@pytest.fixture(scope="session")
def _migrated_template(postgres_server: "EmbeddedPostgres") -> str:
    """The name of a database with every migration applied, to be copied."""
    from shared.db.migrate import migrate

    _finish(_execute(postgres_server, f"CREATE DATABASE {_TEMPLATE}"))
    _finish(migrate(postgres_server.url(_TEMPLATE)))
    return _TEMPLATE


@pytest.fixture(scope="session")
def _create_database(postgres_server: "EmbeddedPostgres") -> Callable[[str], str]:
    """Return a function that copies a database under a new name and returns that name."""
    numbers = count(1)

    def create(template: str) -> str:
        name = f"test_{next(numbers)}"
        # By files it takes 10 ms, half of the default way.
        _finish(_execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
        return name

    return create


@pytest.fixture
def database_url(
    postgres_server: "EmbeddedPostgres", _migrated_template: str, _create_database: Callable[[str], str]
) -> Iterator[str]:
    """The URL of a fresh, migrated database of this test's own; dropped afterwards, whoever is still connected."""
    name = _create_database(_migrated_template)
    yield postgres_server.url(name)
    _finish(_execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def empty_database_url(postgres_server: "EmbeddedPostgres", _create_database: Callable[[str], str]) -> Iterator[str]:
    """The URL of a fresh database without any table, for tests of the migrations themselves."""
    name = _create_database("template1")
    yield postgres_server.url(name)
    _finish(_execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def valkey_server(server_dir: Path) -> "Iterator[EmbeddedValkey]":
    """A Valkey that keeps nothing on disk; use `redis_url`, which empties it."""
    from local.embedded import valkey
    from local.embedded.serving import serving

    server = valkey.prepare(server_dir / "valkey", sockets=server_dir, durable=False)
    with serving(server, log=server_dir / "valkey.log"):
        yield server


@pytest.fixture
def redis_url(valkey_server: "EmbeddedValkey") -> str:
    """The URL of an empty Valkey; what the test before left is flushed."""
    import redis

    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture(scope="session")
def sqs_endpoint() -> Iterator[str]:
    """The URL of a server that speaks SQS."""
    from tests import sqs

    with sqs.running() as endpoint:
        yield endpoint


@pytest.fixture
def sqs_urls(sqs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> "Mapping[QueueName, str]":
    """The URLs of an empty SQS queue for each of ours, and credentials that open them."""
    from tests import sqs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return sqs.empty_queues(sqs_endpoint)


async def _execute(server: "EmbeddedPostgres", statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _finish(work: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine to its end in a thread of its own, as the caller's thread may already run a loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()
