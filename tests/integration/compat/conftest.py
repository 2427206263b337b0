"""The API in this process with both doors; `evolution` and `cloud` call them as their clients do, by the admin key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from shared.settings import Settings

# The fixtures of the API's own tests: the same app, over the same fresh database.
from tests.integration.api.conftest import ADMIN_KEY, Ledger, api, database, ledger, running

__all__ = ["Ledger", "api", "database", "ledger", "running"]

EVOLUTION = "/compat/evolution"
CLOUD = "/compat/cloud/v21.0"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        data_dir=tmp_path,
        db_pool_size=5,
        webhook_allow_networks=["192.0.2.0/24"],
    )


def client_of(api: httpx.AsyncClient, base: str, headers: dict[str, str]) -> httpx.AsyncClient:
    """A client of the same app that knows nothing but its base URL and its own way to give a key."""
    return httpx.AsyncClient(transport=api._transport, base_url=f"http://api.test{base}", headers=headers)


@pytest.fixture
async def evolution(api: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(api, EVOLUTION, {"apikey": ADMIN_KEY}) as client:
        yield client


@pytest.fixture
async def cloud(api: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(api, CLOUD, {"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        yield client


@pytest.fixture
async def shop(api: httpx.AsyncClient) -> dict[str, Any]:
    """A connection that other gateways' clients call loja1."""
    answer = await api.post("/connections", json={"label": "Shop", "external_id": "loja1"})
    assert answer.status_code == 202, answer.text
    shown: dict[str, Any] = answer.json()["connection"]
    return shown


@pytest.fixture
async def limited(api: httpx.AsyncClient) -> str:
    """A key that sees one connection, which is another than `shop`."""
    other = (await api.post("/connections", json={"label": "Other", "external_id": "loja2"})).json()["connection"]
    scopes = [f"{of}:{may}" for of in ("connections", "messages", "webhooks") for may in ("read", "write")]
    made = await api.post("/api-keys", json={"name": "one", "scopes": scopes, "connection_ids": [other["id"]]})
    key: str = made.json()["key"]
    return key
