"""The promise, end to end: worker and host killed twice, Redis flushed; nothing lost, doubled or out of order."""

import asyncio
import json
from collections import Counter, defaultdict
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook

from tests.e2e.conftest import Sink, Stack, until

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(400)]

PHONE = "5511955550001"
MESSAGES = 200
CHATS = 20
INBOUND = 50
KILLS_AT = (MESSAGES // 4, MESSAGES // 2)
# The library acknowledges a message or a receipt before it hands it over: what it holds at a kill is lost to anybody.
SWALLOWED_AT_MOST = 5 * len(KILLS_AT)


async def test_every_accepted_message_is_on_the_wire_once_and_in_order_whoever_dies(stack: Stack, sink: Sink) -> None:
    made = await stack.pair(PHONE, webhook_url=sink.url)
    connection = made["connection"]["id"]

    inbound = 0
    for number in range(MESSAGES):
        chat = f"551198888{number % CHATS:04d}"
        body = {"to": chat, "type": "text", "payload": {"text": str(number)}, "message_id": str(number)}
        url = f"/connections/{connection}/send"
        while (answer := await stack.api.post(url, json=body)).status_code == 503:  # noqa: ASYNC110 - the answer is asked for
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        assert answer.status_code == 202, answer.text
        if number % (MESSAGES // INBOUND) == 0:
            inbound += 1
            written = {"session_phone": PHONE, "from": f"551177777{number % 7:04d}", "text": f"in {number}"}
            assert (await stack.phones.post("/inbound", json=written)).status_code == 200
        if number in KILLS_AT:
            await stack.kill("worker-1", "session-host-child-1")
            redis.Redis.from_url(stack.ready()["redis_url"]).flushall()

    async def settled() -> list[dict[str, Any]] | None:
        outbound = [one for one in await stack.messages(connection) if one["direction"] == "outbound"]
        statuses = Counter(one["status"] for one in outbound)
        told = statuses["delivered"] + statuses["read"] + statuses["unknown"]
        return outbound if statuses["sent"] <= SWALLOWED_AT_MOST and statuses["sent"] + told == MESSAGES else None

    outbound = await until(settled, within_s=150, what="every message settled")
    wire = await stack.wire(PHONE)
    assert not any(row["bot_tag"] for row in wire)
    doubt = {one["payload"]["text"] for one in outbound if one["status"] == "unknown"}
    seen = Counter(row["text"] for row in wire)
    assert {text: times for text, times in seen.items() if times > 1} == {}
    assert {str(number) for number in range(MESSAGES)} - set(seen) <= doubt
    assert all(one["wa_message_id"] for one in outbound if one["status"] == "unknown")
    chats: dict[str, list[int]] = defaultdict(list)
    for row in wire:
        chats[row["to"]].append(int(row["text"]))
    assert all(numbers == sorted(numbers) for numbers in chats.values())

    async def all_received() -> bool:
        return len(_received(sink)) >= inbound - SWALLOWED_AT_MOST

    await until(all_received, within_s=60, what=f"{inbound} inbound messages reached the sink")
    verifier = Webhook(made["webhook_secret"])
    for attempts in sink.got.values():
        assert len({body for _, body in attempts}) == 1
        for headers, body in attempts:
            verifier.verify(body.decode(), headers)
    ids = [one["payload"]["wa_message_id"] for one in _received(sink)]
    assert len(ids) == len(set(ids))


def _received(sink: Sink) -> list[dict[str, Any]]:
    bodies = [json.loads(attempts[0][1]) for attempts in sink.got.values()]
    return [body for body in bodies if body["event"] == "message.received"]
