"""Calls that cancel and retry take the connection before its group: whoever moves the connection meets no deadlock."""

import asyncio
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection, connect
from tests.integration.api.test_queues import dead_messages


async def waiting_for_a_lock(database: Connection) -> None:
    """Return once a statement of this database waits for another's lock."""
    async with asyncio.timeout(10):
        while not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await database.execute("SELECT pg_sleep(0.01)")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/messages/{queued}/cancel", None),
        ("POST", "/messages/{dead}/retry", None),
        ("DELETE", "/jobs/msg-send-{queued}", None),
        ("POST", "/jobs/msg-send-{dead}/retry", None),
        ("POST", "/messages/cancel", {"filter": {"created_before": "2999-01-01T00:00:00Z"}}),
        ("POST", "/messages/retry", {"filter": {"created_before": "2999-01-01T00:00:00Z"}}),
        ("POST", "/queues/message:send/retry-failed", {}),
    ],
)
async def test_the_group_is_free_while_the_connection_is_waited_for(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    database: Connection,
    database_url: str,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    [dead] = await dead_messages(api, connection, database, 1)
    sent = await api.post(
        f"/connections/{connection['id']}/send", json={"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
    )
    url = path.format(queued=sent.json()["message"]["id"], dead=dead)

    async with connect(database_url) as mover, asyncio.TaskGroup() as group:
        moving = mover.transaction()
        await moving.start()
        await mover.execute("SELECT 1 FROM connections FOR UPDATE")
        asked = group.create_task(api.request(method, url, json=body))
        await waiting_for_a_lock(database)
        await mover.execute("SELECT 1 FROM job_groups FOR UPDATE NOWAIT")
        await moving.commit()

    assert asked.result().status_code == 202, asked.result().text
