"""What it reads to take a campaign back in a database that is too new to have statistics."""

import asyncio
from uuid import uuid4

from shared.db import connections
from shared.db.message_bulk import Meant, MessageFilter
from shared.db.pool import connect
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.message import CANCELABLE
from shared.queues import bulk_sends, close_all_queues, enqueue_send_message, initialize_queues
from shared.settings import Settings

ALL = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=CANCELABLE)
# The planner's mistake begins somewhere between 2,000 and this.
MESSAGES, CHATS, AT_ONCE = 10_000, 1_000, 500
READ = "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE indexrelname = 'jobs_oldest'"


async def test_the_next_of_a_chat_is_not_looked_for_among_all_that_wait(database_url: str) -> None:
    queues = await initialize_queues(Settings(database_url=database_url, transport="memory", secret_key="s" * 32))
    session = ConnectionId(uuid4())
    async with queues.pool.acquire() as connection:
        await connections.insert(
            connection, session, tenant_id=DEFAULT_TENANT, label="x", external_id=None, config={}, metadata={}
        )
    for start in range(0, MESSAGES, AT_ONCE):
        numbers = [f"55119{n % CHATS:08d}@s.whatsapp.net" for n in range(start, start + AT_ONCE)]
        await asyncio.gather(*(enqueue_send_message(str(session), one, "text", {"text": "Hi"}) for one in numbers))

    changed = await bulk_sends.cancel(queues, ALL)
    await close_all_queues()

    assert changed.count == MESSAGES
    async with connect(database_url) as connection:
        # Connections that end tell what they read. It was over 7,000,000.
        assert await connection.fetchval(READ) < MESSAGES
