"""`config` at the door: a proxy is kept sealed and shown without its password, and an inside one is refused."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from shared.db import connection_configs
from shared.db.pool import Connection
from shared.domain.ids import ConnectionId
from shared.egress import proxy
from shared.sealing import Sealer
from shared.settings import Settings

_PROXY = "socks5://user:s3cr3t@192.0.2.7:1080"
_SHOWN = "socks5://user:***@192.0.2.7:1080"


async def _stored(database: Connection, connection: dict[str, Any], key: SecretStr) -> str | None:
    found = await connection_configs.read(database, [UUID(connection["id"])])
    sealed = found[ConnectionId(UUID(connection["id"]))].proxy_sealed
    return None if sealed is None else proxy.opened(Sealer(key), UUID(connection["id"]), sealed)


async def test_a_proxy_s_password_is_sealed_and_never_shown(
    api: httpx.AsyncClient, database: Connection, settings: Settings
) -> None:
    made = await api.post("/connections", json={"label": "a", "config": {"proxy": _PROXY}})
    connection = made.json()["connection"]
    path = f"/connections/{connection['id']}"
    patched = await api.patch(path, json={"config": {"proxy": _PROXY, "ignore_groups": True}})
    read = await api.get(path)

    assert made.status_code == 202, made.text
    assert [one["config"]["proxy"] for one in (connection, patched.json(), read.json())] == [_SHOWN] * 3
    assert await _stored(database, connection, settings.secret_key) == _PROXY
    written = await database.fetchval(
        "SELECT string_agg(t, ' ') FROM (SELECT to_jsonb(c)::text FROM connections c UNION ALL SELECT to_jsonb(j)::text"
        " FROM jobs j UNION ALL SELECT payload::text FROM events) AS everything(t)"
    )
    assert "s3cr3t" not in written + made.text + patched.text + read.text


async def test_a_config_that_was_read_can_be_sent_back_and_keeps_the_password(
    api: httpx.AsyncClient, database: Connection, settings: Settings
) -> None:
    connection = (await api.post("/connections", json={"label": "a", "config": {"proxy": _PROXY}})).json()["connection"]
    path = f"/connections/{connection['id']}"
    key = settings.secret_key

    back = await api.patch(path, json={"config": {**connection["config"], "send_weight": 2}})
    elsewhere = await api.patch(path, json={"config": {"proxy": _SHOWN.replace("192.0.2.7", "192.0.2.8")}})

    assert (back.status_code, elsewhere.status_code) == (200, 422), elsewhere.text
    assert elsewhere.json()["errors"][0]["pointer"] == "/config/proxy"
    assert await _stored(database, connection, key) == _PROXY

    assert (await api.patch(path, json={"config": {}})).json()["config"] == {}
    assert await _stored(database, connection, key) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:3128", "socks5://u:p@[::1]:1", "https://proxy.internal", "http://10.1:1"]
)
async def test_an_inside_proxy_is_refused(api: httpx.AsyncClient, database: Connection, url: str) -> None:
    answer = await api.post("/connections", json={"label": "a", "config": {"proxy": url}})

    assert (answer.status_code, answer.json()["code"]) == (422, "PROXY_FORBIDDEN")
    assert answer.json()["errors"][0]["pointer"] == "/config/proxy"
    assert await database.fetchval("SELECT count(*) FROM connections") == 0


async def test_a_row_of_another_version_is_shown_as_it_is(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    config = {"retryLimit": 3, "send_weight": "heavy"}
    await database.execute("UPDATE connections SET config = $2 WHERE id = $1", UUID(connection["id"]), config)

    assert (await api.get(f"/connections/{connection['id']}")).json()["config"] == config


async def test_a_seal_of_another_key_asks_for_the_password_again(api: httpx.AsyncClient, database: Connection) -> None:
    connection = (await api.post("/connections", json={"label": "a", "config": {"proxy": _PROXY}})).json()["connection"]
    await database.execute("UPDATE connections SET proxy_sealed = 'zh1:of another key'")
    path = f"/connections/{connection['id']}"

    back = await api.patch(path, json={"config": connection["config"]})
    anew = await api.patch(path, json={"config": {"proxy": _PROXY}})

    assert (back.status_code, anew.status_code) == (422, 200)
