"""Crowds write at once: each chat keeps its order from the wire to the rows, the event log and the webhooks."""

import asyncio
import sys
from collections import defaultdict

import pytest

from local.soak.evidence import Evidence, Findings, Ledger, Letter, Row, findings
from local.soak.stand import Linked, Stand
from tests.e2e.conftest import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="the fake WhatsApp server is reached on Linux only"),
]

CHATS = 10  # of each session
EACH = 15  # messages of each chat


async def test_many_who_write_at_once_are_stored_and_told_in_the_order_of_their_chats(stand: Stand) -> None:
    linked = await stand.link([f"55118{number:08}" for number in range(4)])
    ledger = Ledger()

    async def contact_writes(one: Linked, chat: str) -> None:
        for number in range(EACH):
            text = f"{chat}-{number}"
            ledger.written.append(Letter(chat, text))
            await stand.write(one.phone, sender=chat, text=text)

    async with asyncio.TaskGroup() as crowd:
        for session, one in enumerate(linked):
            for chat in range(CHATS):
                crowd.create_task(contact_writes(one, f"55218{session:04}{chat:04}"))

    async def all_told() -> Findings | None:
        inbound = [row for one in linked for row in await stand.messages(one.connection_id, "inbound")]
        found = findings(Evidence(ledger, [], inbound, [], stand.sink))
        return found if not found.swallowed and not found.webhooks_wrong else None

    found = await until(all_told, within_s=90, what="every message stored and told once")
    assert found.written == 4 * CHATS * EACH
    assert (found.out_of_order, found.stored_twice) == ([], [])
    told: dict[str, list[str]] = defaultdict(list)
    for event in await _received(stand):
        told[event["payload"]["phone"]].append(event["payload"]["payload"]["text"])
    assert told == {
        chat: [f"{chat}-{number}" for number in range(EACH)] for chat in {letter.chat for letter in ledger.written}
    }


async def _received(stand: Stand) -> list[Row]:
    """Every `message.received` of the event log, in its order."""
    events: list[Row] = []
    params: dict[str, str | int] = {"type": "message.received", "limit": 200}
    while True:
        page = await stand.ask(stand.api, "GET", "/events", params=params)
        events += page["data"]
        if page["next_cursor"] is None:
            return events
        params["cursor"] = page["next_cursor"]
