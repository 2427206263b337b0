"""The whole way, once: pair by QR, send, receive, receipts."""

from collections.abc import Callable

import pytest

from shared.hosts import protocol
from tests.wire.session_host.stage import CONTACT, RECEIVE, STATUS, HostProcess, Stage, lookup_of, send_command

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]


async def test_a_session_pairs_sends_receives_and_tells_of_receipts(
    stage: Stage, start_host: Callable[..., HostProcess]
) -> None:
    phone = "5511988880001"
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)

    command = send_command(session, owner, text="good morning")
    answer = await stage.client.send(owner, command)
    again = await stage.client.send(owner, command)
    nobody = await stage.client.send(owner, send_command(session, owner, text="?", to=_nobody(stage)))

    assert isinstance(answer, protocol.Sent)
    assert again == answer
    assert isinstance(nobody, protocol.Refused)
    assert (nobody.code, nobody.permanent) == ("NUMBER_NOT_ON_WHATSAPP", True)
    [sent] = stage.fake.wire(phone)
    assert (sent["wire_id"], sent["type"], sent["text"]) == (answer.wire_id, "text", "good morning")
    assert await stage.client.lookup(owner, lookup_of(command, owner)) == answer

    wire_id = stage.inbound(phone, "and to you")
    [inbound] = await stage.until_jobs(RECEIVE)
    [receipt, *_] = await stage.until_jobs(STATUS)

    assert (inbound["waMessageId"], inbound["content"]["text"]) == (wire_id, "and to you")
    assert (inbound["chat"], inbound["fromMe"]) == (f"{CONTACT}@s.whatsapp.net", False)
    assert (receipt["waMessageId"], receipt["status"]) == (answer.wire_id, "delivered")


def _nobody(stage: Stage) -> str:
    stage.fake.post("/contacts", {"phone": "5511999990000", "on_whatsapp": False})
    return "5511999990000"
