"""A phone sends its history to a host that it has just linked: what becomes of it."""

from collections.abc import Callable

import pytest

from session_host.device_store import SCHEMA
from tests.wire.session_host.stage import CONTACT, RECEIVE, HostProcess, Stage, until

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

PHONE = "5511988880077"
PAST = [{"text": f"long ago, {number}", "from_me": number % 2 == 1, "timestamp": 1700000000} for number in range(20)]


async def test_a_phones_history_is_read_by_the_library_and_makes_no_messages(
    stage: Stage, start_host: Callable[..., HostProcess]
) -> None:
    await start_host().until_ready()
    session = await stage.connection()
    await stage.client.open(session)

    history = [{"phone": CONTACT, "name": "Ana", "messages": PAST}]
    stage.fake.post("/scan", {"qr": await stage.until_qr(session), "phone": PHONE, "history": history})
    await stage.until_status(session, "connected")

    async def is_read() -> bool:
        secrets = await stage.pool.fetchval(f"SELECT count(*) FROM {SCHEMA}.whatsmeow_message_secrets")
        return bool(secrets == len(PAST))

    await until(is_read)
    wire_id = stage.inbound(PHONE, "now")
    [job] = await stage.until_jobs(RECEIVE)
    assert (job["waMessageId"], job["backfilled"]) == (wire_id, False)
