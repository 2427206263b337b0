"""`message:send` on a real database: what is committed before a host is asked, in batches as one by one."""

from typing import Any

import pytest

from shared.db import tries
from shared.db.tries import Start
from shared.domain.errors import HostUnreachable
from shared.domain.message import MessageStatus
from shared.hosts import protocol
from shared.hosts.client import HostNotReached
from tests.integration.sending.conftest import DEVICE, EPOCH, HOST, Office, sent


async def test_a_try_is_committed_with_its_number_host_epoch_and_device_before_the_host_is_asked(
    office: Office,
) -> None:
    message = await office.message(await office.session())
    seen: list[Any] = []

    async def answer(command: protocol.Send) -> protocol.Sent:
        row = await office.row(message)
        attempt = await office.queues.pool.fetchrow("SELECT * FROM message_attempts WHERE message_id = $1", message)
        assert attempt is not None
        seen.append((row["status"], row["send_no"], row["send_host"], row["send_epoch"], row["send_device"]))
        seen.append((attempt["send_no"], attempt["host_id"], attempt["epoch"], attempt["device_jid"]))
        seen.append((command.send_no, command.epoch, attempt["finished_at"]))
        return sent(command)

    office.host.on_send = answer
    await office.drain()

    assert seen == [("processing", 1, HOST, EPOCH, DEVICE), (1, HOST, EPOCH, DEVICE), (1, EPOCH, None)]
    assert await office.status(message) == "sent"
    assert await office.job_states() == {"completed": 1}


async def test_tries_that_start_together_share_a_commit_and_each_is_sent_once(office: Office) -> None:
    messages = [await office.message(await office.session()) for _ in range(5)]

    await office.drain()

    commits = await office.queues.pool.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM message_transitions WHERE to_status = 'processing'"
    )
    assert commits == 1
    assert sorted(one.message_id for one in office.host.sends) == sorted(messages)
    assert {await office.status(one) for one in messages} == {"sent"}


async def test_one_that_is_gone_settled_expired_or_offline_holds_up_none_that_starts_with_it(office: Office) -> None:
    gone = await office.message(await office.session())
    await office.queues.pool.execute("DELETE FROM messages WHERE id = $1", gone)
    canceled = await office.message(await office.session(), status="canceled")
    expired = await office.message(await office.session(), status="expired")
    offline = await office.message(await office.session(status="disconnected"))
    unheld = await office.message(await office.session(is_leased=False))
    good = await office.message(await office.session())

    await office.drain(slots=10)

    assert [one.message_id for one in office.host.sends] == [good]
    assert await office.status(good) == "sent"
    for message, status in ((canceled, "canceled"), (expired, "expired"), (offline, "queued"), (unheld, "queued")):
        row = await office.row(message)
        assert (row["status"], row["send_no"], row["attempts"]) == (status, 0, 0)
    states = dict(
        await office.queues.pool.fetch("SELECT data ->> 'messageDbId', state FROM jobs")  # type: ignore[arg-type]  # pairs
    )
    assert states == {
        str(gone): "cancelled",
        str(canceled): "cancelled",
        str(expired): "completed",
        str(offline): "waiting",
        str(unheld): "delayed",
        str(good): "completed",
    }


async def test_a_try_that_was_begun_and_never_sent_is_looked_up_and_then_sent_under_the_next_number(
    office: Office,
) -> None:
    message = await office.message(await office.session())
    async with office.queues.pool.acquire() as connection:  # a worker that dies right after this
        [begun] = await tries.begin(connection, [Start(message_id=message, job_id="died")])
    assert begun is not None
    assert begun.is_begun

    await office.drain()

    [lookup] = office.host.lookups
    assert (lookup.send_no, lookup.send_host, lookup.send_epoch, lookup.send_device) == (1, HOST, EPOCH, DEVICE)
    assert [one.send_no for one in office.host.sends] == [2]
    assert lookup.secret != office.host.sends[0].secret
    assert await office.status(message) == "sent"


async def test_a_message_in_doubt_begins_no_try_over_another_than_the_one_that_was_settled(office: Office) -> None:
    message = await office.message(await office.session(), status="processing", send_no=3)
    async with office.queues.pool.acquire() as connection:
        [unasked] = await tries.begin(connection, [Start(message_id=message, job_id="a")])
        [stale] = await tries.begin(connection, [Start(message_id=message, job_id="a", over=2)])
        [fitting] = await tries.begin(connection, [Start(message_id=message, job_id="a", over=3)])
        [late] = await tries.begin(connection, [Start(message_id=message, job_id="b", over=3)])

    assert [one is not None and one.is_begun for one in (unasked, stale, fitting, late)] == [False, False, True, False]
    assert fitting is not None
    assert (fitting.send_no, fitting.status) == (4, MessageStatus.PROCESSING)
    assert (await office.row(message))["send_no"] == 4


async def test_of_two_jobs_of_one_message_in_one_batch_one_begins_a_try(office: Office) -> None:
    message = await office.message(await office.session(), job=False)
    async with office.queues.pool.acquire() as connection:
        one, other = await tries.begin(
            connection, [Start(message_id=message, job_id="a"), Start(message_id=message, job_id="b")]
        )

    assert one is not None
    assert other is not None
    assert sorted((one.is_begun, other.is_begun)) == [False, True]
    assert await office.queues.pool.fetchval("SELECT count(*) FROM message_attempts") == 1
    row = await office.row(message)
    assert (row["send_no"], row["attempts"]) == (1, 1)


@pytest.mark.parametrize("trouble", [HostNotReached("no"), protocol.Busy(), protocol.NotOwner()])
async def test_a_try_that_the_host_did_not_take_is_given_back(office: Office, trouble: Any) -> None:
    message = await office.message(await office.session())

    async def answer(_command: protocol.Send) -> protocol.SendAnswer:
        if isinstance(trouble, Exception):
            raise trouble
        return trouble  # type: ignore[no-any-return]

    office.host.on_send = answer
    due_s = await office.drain()

    row = await office.row(message)
    assert (row["status"], row["attempts"], row["send_no"]) == ("queued", 0, 1)
    assert due_s is not None
    assert await office.job_states() == {"delayed": 1}


async def test_a_send_that_may_have_left_stays_in_doubt_until_its_host_was_asked(office: Office) -> None:
    message = await office.message(await office.session())

    async def break_off(_command: protocol.Send) -> protocol.SendAnswer:
        raise HostUnreachable("broken")

    office.host.on_send = break_off
    await office.drain()

    assert await office.status(message) == "processing"
    office.host.on_lookup = protocol.Sent(wire_id=sent(office.host.sends[0]).wire_id, at=sent(office.host.sends[0]).at)
    await office.queues.pool.execute("SELECT ledger_make_due_v1(array_agg(pk)) FROM jobs")
    await office.drain()

    assert len(office.host.sends) == 1
    assert await office.status(message) == "sent"


async def test_a_session_that_goes_offline_while_the_host_is_asked_begins_no_try(office: Office) -> None:
    session = await office.session()
    message = await office.message(session, status="processing", send_no=1, send_host=HOST, send_epoch=EPOCH)
    lookup = office.host.lookup

    async def goes_offline(owner: Any, command: protocol.Lookup) -> protocol.LookupAnswer:
        await office.queues.pool.execute("UPDATE connections SET status = 'disconnected'")
        return await lookup(owner, command)

    office.host.lookup = goes_offline  # type: ignore[method-assign]
    await office.drain()

    assert office.host.sends == []
    row = await office.row(message)
    assert (row["status"], row["send_no"]) == ("unknown", 1)
