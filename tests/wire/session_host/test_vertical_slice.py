"""The whole way, once: pair by QR, send, receive, receipts, and a restart that needs no QR."""

import os
from typing import Any
from uuid import uuid4

import pytest

from shared.hosts import protocol

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

RECEIVE, STATUS = 3, 5


async def test_a_session_pairs_sends_receives_and_tells_of_receipts(stage: Any, host: Any) -> None:
    session = await stage.connection()
    await stage.pair(session, "5511988880001")
    owner = await stage.owner(session)
    assert owner.device_jid is not None

    command = protocol.Send(
        connection_id=session,
        message_id=uuid4(),
        send_no=1,
        secret=os.urandom(32),
        epoch=owner.epoch,
        to="5511999990001@s.whatsapp.net",
        type="text",
        payload={"text": "good morning"},
    )
    answer = await stage.client.send(owner, command)
    again = await stage.client.send(owner, command)

    assert isinstance(answer, protocol.Sent)
    assert again == answer
    [sent] = stage.fake.wire("5511988880001")
    assert (sent["wire_id"], sent["type"], sent["text"]) == (answer.wire_id, "text", "good morning")
    looked_up = await stage.client.lookup(
        owner,
        protocol.Lookup(
            connection_id=session,
            message_id=uuid4(),
            send_no=1,
            secret=command.secret,
            send_host=owner.host_id,
            send_epoch=owner.epoch,
            send_device=owner.device_jid,
        ),
    )
    assert looked_up == protocol.Left(wire_id=answer.wire_id)

    wire_id = stage.fake.post(
        "/inbound", session_phone="5511988880001", **{"from": "5511999990001", "text": "and to you"}
    )["wire_id"]

    async def received() -> Any:
        return await stage.jobs(RECEIVE)

    [inbound] = await stage.until(received)
    assert (inbound["waMessageId"], inbound["chat"], inbound["content"]["text"]) == (
        wire_id,
        "5511999990001@s.whatsapp.net",
        "and to you",
    )

    async def receipts() -> Any:
        return await stage.jobs(STATUS)

    [receipt, *_] = await stage.until(receipts)
    assert (receipt["waMessageId"], receipt["status"]) == (answer.wire_id, "delivered")
