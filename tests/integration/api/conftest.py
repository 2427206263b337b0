"""The API in this process, over a fresh database: `api` calls it with the admin key, `database` looks behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from shared.db.pool import Connection, connect
from shared.settings import Settings

ADMIN_KEY = "admin-key-of-the-tests"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        db_pool_size=5,
        webhook_allow_networks=["192.0.2.0/24"],
    )


@asynccontextmanager
async def running(settings: Settings, *, key: str | None = ADMIN_KEY) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test", headers=headers) as client,
    ):
        yield client


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    async with connect(database_url) as connection:
        yield connection


class Ledger:
    """Counts the rows of everything that a request could change: equal before and after means that nothing did."""

    TABLES = ("connections", "messages", "jobs", "events", "webhook_endpoints", "api_keys", "idempotency_keys")

    def __init__(self, database: Connection) -> None:
        self._database = database

    async def rows(self) -> dict[str, int]:
        return {table: await self._database.fetchval(f"SELECT count(*) FROM {table}") for table in self.TABLES}


@pytest.fixture
def ledger(database: Connection) -> Ledger:
    return Ledger(database)


@pytest.fixture
async def connection(api: httpx.AsyncClient) -> dict[str, Any]:
    """A connection that was just created."""
    answer = await api.post("/connections", json={"label": "Shop"})
    assert answer.status_code == 202, answer.text
    shown: dict[str, Any] = answer.json()["connection"]
    return shown
