"""The device store on a real Postgres."""

import asyncio

from session_host.device_store import SCHEMA, DeviceStore
from shared.db.pool import open_pool

_TABLES = (
    f"CREATE SCHEMA {SCHEMA};"
    f"CREATE TABLE {SCHEMA}.whatsmeow_message_secrets"
    " (our_jid text, chat_jid text, sender_jid text, message_id text, key bytea)"
)


async def test_hosts_that_start_at_the_same_moment_all_find_the_indexes(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=10)
    await pool.execute(_TABLES)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(DeviceStore.open(pool, database_url, name=f"host-{number}"))

    made = await pool.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = $1 ORDER BY 1", SCHEMA)
    assert [row["indexname"] for row in made] == ["zaphub_message_secrets_id", "zaphub_message_secrets_key"]
    await pool.close()
