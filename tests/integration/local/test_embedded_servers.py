"""The embedded servers as the other tests rely on them."""

import asyncpg
import pytest
import redis.asyncio

from local.embedded.postgres import MAX_CONNECTIONS, EmbeddedPostgres

pytestmark = pytest.mark.anyio


async def test_postgres_listens_on_its_socket_only(postgres_server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres_server.url())

    listen = await connection.fetchval("SHOW listen_addresses")
    most = await connection.fetchval("SHOW max_connections")
    await connection.close()

    assert listen == ""
    assert most == str(MAX_CONNECTIONS)


@pytest.mark.parametrize("_round", [1, 2])
async def test_every_test_gets_a_database_of_its_own(empty_database_url: str, _round: int) -> None:
    connection = await asyncpg.connect(empty_database_url)

    await connection.execute("CREATE TABLE mine (id int)")

    await connection.close()


async def test_valkey_never_evicts(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        policy = await client.config_get("maxmemory-policy")
        names = await client.keys("*")

    assert policy == {"maxmemory-policy": "noeviction"}
    assert names == []
