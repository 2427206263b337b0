"""A link that WhatsApp refuses, to the library or to the phone: which status says so, and what works afterwards."""

from collections.abc import Callable

import httpx
import pytest

from shared.domain.ids import ConnectionId
from shared.hosts import protocol
from tests.wire.session_host.stage import HostProcess, Stage, until

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

Start = Callable[..., HostProcess]


async def open_again(stage: Stage, session: ConnectionId, *, above_epoch: int) -> None:
    """Open it, once the host has put away the one that ended."""

    async def is_opened() -> bool:
        answer = await stage.client.open(session)
        return isinstance(answer, protocol.Taken) and answer.epoch > above_epoch

    await until(is_opened)


def scan(stage: Stage, code: str, phone: str) -> int:
    """The phone scans a code, which may be refused; the HTTP status that says so."""
    body = {"qr": code, "phone": phone}
    return httpx.post(f"{stage.fake.url}/scan", json=body, timeout=40, trust_env=False).status_code


async def test_an_outdated_library_fails_with_that_reason_and_what_was_linked_stays_linked(
    stage: Stage, start_host: Start
) -> None:
    phone = "5511977660001"
    await start_host().until_ready()
    linked, unlinked = await stage.connection(), await stage.connection()
    before = await stage.pair(linked, phone)

    stage.fake.post("/faults", {"kind": "client_outdated"})
    stage.fake.post("/faults", {"kind": "drop_connection", "session_phone": phone})
    await stage.client.open(unlinked)
    failed = [await stage.until_status(session, "failed") for session in (linked, unlinked)]
    stage.fake.clear_faults()
    await open_again(stage, linked, above_epoch=before.epoch)
    after = await stage.until_status(linked, "connected", above_epoch=before.epoch)

    assert [row["status_reason"] for row in failed] == ["CLIENT_OUTDATED", "CLIENT_OUTDATED"]
    assert [row["device_jid"] for row in (*failed, after)] == [before.device_jid, None, before.device_jid]


async def test_a_code_is_void_after_a_demand_for_a_passkey_and_one_of_the_next_set_links(
    stage: Stage, start_host: Start
) -> None:
    phone = "5511977660002"
    await start_host().until_ready()
    session = await stage.connection()
    stage.fake.post("/faults", {"kind": "passkey", "session_phone": phone})
    await stage.client.open(session)
    code = await stage.until_qr(session)

    demanded = scan(stage, code, phone)
    asked = await stage.until_status(session, "passkey_required")
    stage.fake.clear_faults()
    refused = scan(stage, code, phone)
    linked = scan(stage, await stage.until_qr(session), phone)

    await stage.until_status(session, "connected")
    assert (demanded, refused, linked) == (409, 409, 200)
    assert (asked["status_reason"], asked["qr_code"]) == ("passkey-request", None)
