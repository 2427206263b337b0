"""The same product where SQS rings and Lambda runs the functions and the API: nothing lost, doubled or out of order."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Sink, Stack, supervised, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PHONE = "5511955550004"
MESSAGES = 60
CHATS = 10
INBOUND = 10
KILLED_AT = MESSAGES // 2


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Path]:
    with supervised(tmp_path, options=["--lambda"]) as ready:
        yield ready


async def test_every_message_is_sent_once_and_in_order_when_the_containers_die(stack: Stack, sink: Sink) -> None:
    made = await stack.pair(PHONE, webhook_url=sink.url)
    connection = made["connection"]["id"]
    assert stack.ready()["redis_url"] is None

    for number in range(MESSAGES):
        body = {
            "to": f"551198888{number % CHATS:04d}",
            "type": "text",
            "payload": {"text": str(number)},
            "message_id": str(number),
        }
        while (answer := await stack.api.post(f"/connections/{connection}/send", json=body)).status_code == 503:  # noqa: ASYNC110 - the answer is asked for
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        assert answer.status_code == 202, answer.text
        if number % (MESSAGES // INBOUND) == 0:
            written = {"session_phone": PHONE, "from": f"551177777{number % 7:04d}", "text": f"in {number}"}
            assert (await stack.phones.post("/inbound", json=written)).status_code == 200
        if number == KILLED_AT:
            await stack.kill("worker-1")

    async def settled() -> list[dict[str, Any]] | None:
        messages = await stack.messages(connection)
        statuses = Counter(one["status"] for one in messages if one["direction"] == "outbound")
        received = sum(one["direction"] == "inbound" for one in messages)
        told = statuses["sent"] + statuses["delivered"] + statuses["read"]
        return messages if told == MESSAGES and received == INBOUND else None

    await until(settled, within_s=240, what="every message sent, every inbound one stored")

    wire = await stack.wire(PHONE)
    assert Counter(row["text"] for row in wire) == {str(number): 1 for number in range(MESSAGES)}
    chats: dict[str, list[int]] = defaultdict(list)
    for row in wire:
        chats[row["to"]].append(int(row["text"]))
    assert all(numbers == sorted(numbers) for numbers in chats.values())

    async def told() -> bool:
        events = Counter(headers["x-zaphub-event"] for tries in sink.got.values() for headers, _ in tries[:1])
        return events["message.sent"] == MESSAGES and events["message.received"] == INBOUND

    await until(told, within_s=120, what="every webhook delivered")
