"""An endpoint that asks for the order of a chat: what fails holds back its own chat, and no other."""

import asyncio
import json
from dataclasses import replace

import pytest

from shared.db.pool import Pool
from shared.domain.webhook import fan_out_job
from shared.queues.runtime import Queues
from shared.webhooks.fan_out import fan_out
from tests.integration.webhooks.conftest import Desk, drain, enqueue
from tests.integration.webhooks.servers import OK, Server, replying, serving

REFUSED = replying(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
CHATS = ("5511911111111@s.whatsapp.net", "5511922222222@s.whatsapp.net")


def told(server: Server, chat: str) -> list[int]:
    """The numbers of a chat's messages, in the order in which they came, the failed tries too."""
    payloads = [json.loads(request.partition(b"\r\n\r\n")[2])["payload"] for request in server.requests]
    return [payload["n"] for payload in payloads if payload.get("jid") == chat]


@pytest.mark.parametrize("keeps_order", [True, False])
async def test_a_webhook_that_fails_holds_back_those_of_its_chat_if_asked(
    desk: Desk, pool: Pool, queues: Queues, *, keeps_order: bool
) -> None:
    is_well = False

    async def refusing_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payload = json.loads(server.requests[-1].partition(b"\r\n\r\n")[2])["payload"]
        is_first = (payload.get("jid"), payload["n"]) == (CHATS[0], 0)
        await (REFUSED if is_first and not is_well else OK)(reader, writer)

    async with serving(refusing_the_first) as server:
        await desk.endpoint(server.url, keeps_order=keeps_order)
        for number in range(4):
            for chat in CHATS:
                await desk.event(payload={"jid": chat, "n": number})
        await desk.event("session.connected", payload={"n": 9})
        await enqueue(queues, fan_out_job(desk.connection_id))
        await drain(queues)
        before = told(server, CHATS[0]), told(server, CHATS[1])

        is_well = True
        await pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'")
        await pool.fetch("SELECT * FROM ledger_sweep_v1(100)")
        await drain(queues)

    if keeps_order:
        assert before == ([0], [0, 1, 2, 3])
        assert told(server, CHATS[0]) == [0, 0, 1, 2, 3]
    else:
        assert sorted(before[0]) == [0, 1, 2, 3]
    assert await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == 9


async def test_what_is_given_up_lets_the_chat_go_on(desk: Desk, pool: Pool, queues: Queues) -> None:
    async def refusing_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (REFUSED if len(server.requests) == 1 else OK)(reader, writer)

    async with serving(refusing_the_first) as server:
        await desk.endpoint(server.url, keeps_order=True)
        for number in range(3):
            await desk.event(payload={"jid": CHATS[0], "n": number})
        async with queues.transaction() as tx:
            made = await fan_out(tx.connection, desk.connection_id)
            await tx.enqueue([replace(job, max_attempts=1) for job in made.jobs])

        await drain(queues)

    assert told(server, CHATS[0]) == [0, 1, 2]
    rows = await pool.fetch("SELECT status FROM webhook_deliveries ORDER BY sequence")
    assert [row["status"] for row in rows] == ["dead", "delivered", "delivered"]
