"""The five ways in which "no trace, so nothing left" could be wrong (DESIGN D6), each on the real library."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest

from shared.db import tries
from shared.db.hosts import Owner
from shared.domain.errors import HostUnreachable
from shared.domain.ids import ConnectionId, MessageId
from shared.hosts import protocol
from shared.hosts.client import HostClient, open_http
from tests.wire.session_host.stage import HOST_TOKEN, HostProcess, Stage, lookup_of, send_command, until

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

_numbers = count(1)
Start = Callable[..., HostProcess]

_MESSAGE = """
INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, type, payload, status,
                      send_no, send_started_at)
VALUES ($1::uuid, $2, $1::uuid::text, 'outbound', 'api', true, '5511999990001@s.whatsapp.net', 'text', '{"text": "hi"}',
        'processing', 1, now())
"""
_REFUSE_SECRETS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON whatsmeow.whatsmeow_message_secrets FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def new_phone() -> str:
    return f"55119666{next(_numbers):05d}"


def second_try(command: protocol.Send, owner: Owner) -> protocol.Send:
    changed = {"send_no": 2, "secret": os.urandom(32), "epoch": owner.epoch, "payload": {"text": "second"}}
    return command.model_copy(update=changed)


async def begun(stage: Stage, command: protocol.Send) -> None:
    """What the worker has committed before it asks the host."""
    await stage.pool.execute(_MESSAGE, command.message_id, command.connection_id)
    await stage.pool.execute(
        "INSERT INTO message_attempts (message_id, send_no, job_id) VALUES ($1, 1, 'job')", command.message_id
    )


async def died_after_sending(
    stage: Stage, start_host: Start, phone: str, *, prepare: str | None = None
) -> tuple[ConnectionId, Owner, protocol.Send]:
    """A host that is killed when WhatsApp has a message and nobody was told; its session is online again."""
    host = start_host(ZAPHUB_FAILPOINT="host_after_send")
    child = await host.until_ready()
    session = await stage.connection()
    before = await stage.pair(session, phone)
    command = send_command(session, before, text="once")
    await begun(stage, command)
    if prepare is not None:
        await stage.pool.execute(prepare)
    with pytest.raises(HostUnreachable):
        await stage.client.send(before, command)
    await host.until_ready(but=child)
    await stage.until_status(session, "connected", above_epoch=before.epoch)
    assert len(stage.fake.wire(phone)) == 1
    return session, before, command


async def test_queued_in_a_live_host_is_running_and_what_arrives_after_a_lookup_is_not_sent(
    stage: Stage, start_host: Start
) -> None:
    phone = new_phone()
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)
    stage.fake.post("/faults", {"kind": "ack_delay", "ms": 4000, "session_phone": phone})
    running, other, late = (send_command(session, owner, text=text) for text in ("running", "other", "late"))

    sending = asyncio.ensure_future(stage.client.send(owner, running))

    async def is_running() -> bool:
        return await stage.client.lookup(owner, lookup_of(running, owner)) == protocol.Running()

    await until(is_running)
    assert await stage.client.send(owner, other) == protocol.Busy()
    never_left = await stage.client.lookup(owner, lookup_of(late, owner))
    sent = await sending

    assert await stage.client.lookup(owner, lookup_of(running, owner)) == sent
    assert never_left == protocol.NeverLeft()
    assert isinstance(await stage.client.send(owner, late), protocol.Refused)
    assert [one["text"] for one in stage.fake.wire(phone)] == ["running"]


async def test_a_trace_that_the_store_refuses_is_marked_before_its_message_leaves(
    stage: Stage, start_host: Start
) -> None:
    phone = new_phone()
    session, before, command = await died_after_sending(stage, start_host, phone, prepare=_REFUSE_SECRETS)

    answer = await stage.client.lookup(await stage.owner(session), lookup_of(command, before))
    async with stage.pool.acquire() as connection:
        is_untraced = await tries.is_untraced(connection, MessageId(command.message_id), command.send_no)

    # The mark overrules what the host says: tests/integration/sending/test_doubts.py.
    assert (answer, is_untraced) == (protocol.NeverLeft(), True)


async def test_a_stopped_host_may_still_hold_the_command_until_another_has_logged_in_and_never_sends_it_then(
    stage: Stage, start_host: Start
) -> None:
    phone, first = new_phone(), start_host()
    child = await first.until_ready()
    session = await stage.connection()
    before = await stage.pair(session, phone)
    command = send_command(session, before, text="first")
    stopped = (first.process.pid, child)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    async with open_http(HOST_TOKEN) as http:
        with pytest.raises(HostUnreachable):
            # It is in the stopped host's socket now, and stays there.
            await HostClient(stage.pool, http, send_timeout_s=1).send(before, command)
    await start_host().until_ready()
    await stage.until_status(session, "connected", above_epoch=before.epoch)
    after = await stage.owner(session)
    answer = await stage.client.lookup(after, lookup_of(command, before))
    again = await stage.client.send(after, second_try(command, after))
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    assert after.host_id != before.host_id
    assert answer == protocol.NeverLeft()
    assert isinstance(again, protocol.Sent)
    assert isinstance(await stage.client.send(after, send_command(session, after, text="third")), protocol.Sent)
    assert [one["text"] for one in stage.fake.wire(phone)] == ["second", "third"]


async def test_a_second_try_is_not_taken_for_the_first_and_a_logout_erases_the_proof_of_both(
    stage: Stage, start_host: Start
) -> None:
    phone = new_phone()
    session, before, first = await died_after_sending(stage, start_host, phone)
    owner = await stage.owner(session)
    second, third = second_try(first, owner), second_try(send_command(session, owner, text="third"), owner)

    of_second = await stage.client.lookup(owner, lookup_of(second, owner))
    of_first = await stage.client.lookup(owner, lookup_of(first, before))
    late = await stage.client.send(owner, second)
    stage.fake.post("/faults", {"kind": "logged_out", "session_phone": phone})
    await stage.until_status(session, "logged_out")
    again = await stage.pair(session, phone)

    [on_wire] = stage.fake.wire(phone)
    assert of_second == protocol.NeverLeft()
    assert of_first == protocol.Left(wire_id=on_wire["wire_id"])
    assert isinstance(late, protocol.Refused)
    assert await stage.pool.fetchval("SELECT count(*) FROM whatsmeow.whatsmeow_message_secrets") == 0
    for erased, of in ((first, before), (third, owner)):
        assert isinstance(await stage.client.lookup(again, lookup_of(erased, of)), protocol.CannotSay)
