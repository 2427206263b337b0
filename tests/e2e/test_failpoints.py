"""A part dies at each numbered step of a message's way (DESIGN section 4): nothing is lost, nothing is sent twice."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Sink, Stack, until

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(240)]

PHONE = "5511955550002"
MESSAGES = 6
# A receipt that the library had acknowledged dies with its host.
_HOST_DIES = ("host", "journal", "send_after_lookup")


@pytest.mark.parametrize(
    "failpoint",
    [
        "api_before_commit",
        "api_after_commit",
        "send_before_begin",
        "send_after_begin",
        "host_before_send",
        "host_after_send",
        "send_before_record",
        "send_after_lookup",
        "status_before_record",
        "journal_appended",
        "journal_before_commit",
        "journal_after_commit",
        "webhook_before_post",
        "webhook_after_post",
    ],
)
async def test_a_death_here_loses_nothing_and_doubles_nothing(
    stack: Stack, sink: Sink, failpoint: str, tmp_path: Path
) -> None:
    made = await stack.pair(PHONE, webhook_url=sink.url)
    connection = made["connection"]["id"]
    if failpoint == "send_after_lookup":
        # Looked up is a try of which nobody can tell: WhatsApp stays silent, and its host dies meanwhile.
        await stack.phones.post("/faults", json={"kind": "no_ack", "session_phone": PHONE})

    for number in range(MESSAGES):
        await _send(stack, connection, number)
    if failpoint == "send_after_lookup":

        async def has_left() -> bool:
            return bool(await stack.wire(PHONE))

        await until(has_left, within_s=30, what="the first message on the wire")
        await stack.kill("session-host-child-1")

    async def passed() -> bool:
        return (tmp_path / failpoint).exists()

    await until(passed, within_s=60, what=f"somebody died at {failpoint}")
    # Afterwards: what the library has acknowledged and not handed over yet dies with it.
    written = {"session_phone": PHONE, "from": "5511777770001", "text": "in"}
    wire_id = (await stack.phones.post("/inbound", json=written)).json()["wire_id"]

    async def settled() -> list[dict[str, Any]] | None:
        found = await stack.messages(connection)
        outbound = [one for one in found if one["direction"] == "outbound"]
        # A receipt that died with the host leaves its message `sent`, or in doubt under its exact wire id.
        ends = {"delivered", "read", *(["sent", "unknown"] if failpoint.startswith(_HOST_DIES) else [])}
        done = len(outbound) == MESSAGES and all(one["status"] in ends for one in outbound)
        return found if done and len(found) == MESSAGES + 1 else None

    found = await until(settled, within_s=120, what="every message settled")
    assert Counter(row["text"] for row in await stack.wire(PHONE)) == {str(number): 1 for number in range(MESSAGES)}
    assert all(one["wa_message_id"] for one in found)
    assert [one["wa_message_id"] for one in found if one["direction"] == "inbound"] == [wire_id]

    async def told() -> bool:
        found = await stack.messages(connection)
        delivered = sum(one["status"] == "delivered" for one in found if one["direction"] == "outbound")
        events = Counter(attempts[0][0]["x-zaphub-event"] for attempts in sink.got.values())
        return (events["message.delivered"], events["message.received"]) == (delivered, 1)

    await until(told, within_s=60, what="each message's webhooks came, with one id each")


async def _send(stack: Stack, connection: str, number: int) -> None:
    """As a careful client does: with an id of its own, and again when no answer came or a 503 asks for that."""
    body = {
        "to": f"55119888800{number % 2:02d}",
        "type": "text",
        "payload": {"text": str(number)},
        "message_id": f"m-{number}",
    }

    async def accepted() -> bool:
        try:
            answer = await stack.api.post(f"/connections/{connection}/send", json=body)
        except httpx.TransportError:
            return False
        assert answer.status_code in {202, 503}, answer.text
        return answer.status_code == 202

    await until(accepted, within_s=60, what="the message was accepted")
