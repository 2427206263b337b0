"""A campaign is taken back while it is being sent, taken back twice, retried, or by a process that dies on the way."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from shared.db import message_bulk
from shared.db.message_bulk import Meant, MessageFilter
from shared.domain.ids import DEFAULT_TENANT, MessageId
from shared.domain.jobs import QueueName
from shared.domain.message import CANCELABLE, MessageStatus
from shared.queues import bulk_sends, ledger
from tests.integration.sending.conftest import Office

ALL = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=CANCELABLE)


async def _campaign(office: Office, session: str, count: int) -> list[MessageId]:
    made = [await office.message(session) for _ in range(count)]
    await office.queues.pool.execute(
        "UPDATE messages m SET job_pk = (SELECT j.pk FROM jobs j WHERE j.data ->> 'messageDbId' = m.id::text)"
    )
    return made


async def _statuses(office: Office, messages: Sequence[MessageId]) -> set[str]:
    return {await office.status(one) for one in messages}


async def test_what_a_crash_leaves_sends_nothing_and_costs_the_connection_no_rate(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await office.session()
    async with office.queues.pool.acquire() as connection:
        await ledger.set_group(connection, QueueName.MESSAGE_SEND, session, rate_per_minute=1, burst=1)
    campaign = await _campaign(office, session, 4)

    async def die(*_: Any) -> None:
        raise ConnectionResetError("the process is gone")

    with monkeypatch.context() as patched:
        patched.setattr(bulk_sends, "_end_jobs", die)
        with pytest.raises(ConnectionResetError):
            await bulk_sends.cancel(office.queues, ALL)
    [wanted] = (await _campaign(office, session, 1))[-1:]
    assert await office.job_states() == {"waiting": 5}
    await office.drain()

    assert [one.message_id for one in office.host.sends] == [wanted]
    assert (await _statuses(office, campaign), await office.status(wanted)) == ({"canceled"}, "sent")
    assert await office.job_states() == {"cancelled": 4, "completed": 1}


async def test_a_job_that_is_claimed_before_its_end_sends_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await _campaign(office, await office.session(), 3)
    end_jobs = bulk_sends._end_jobs

    async def after_a_worker(*arguments: Any) -> None:
        await office.drain()
        await end_jobs(*arguments)

    monkeypatch.setattr(bulk_sends, "_end_jobs", after_a_worker)
    changed = await bulk_sends.cancel(office.queues, ALL)

    assert (changed.count, changed.complete, office.host.sends) == (3, True, [])
    assert await _statuses(office, campaign) == {"canceled"}
    assert await office.job_states() == {"cancelled": 3}


async def test_batches_go_side_by_side_and_need_their_group_for_nothing_but_the_jobs(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await _campaign(office, await office.session(), 3)
    monkeypatch.setattr(bulk_sends, "BATCH", 1)
    monkeypatch.setattr(bulk_sends, "AT_ONCE", 3)

    async with asyncio.TaskGroup() as group, office.queues.pool.acquire() as worker, worker.transaction():
        await worker.execute("SELECT 1 FROM job_groups FOR UPDATE")
        stopping = group.create_task(bulk_sends.cancel(office.queues, ALL))
        async with asyncio.timeout(10):
            while await _statuses(office, campaign) != {"canceled"}:
                await office.queues.pool.execute("SELECT pg_sleep(0.005)")
        assert not stopping.done()

    assert stopping.result().count == 3
    assert await office.job_states() == {"cancelled": 3}


async def test_two_calls_at_once_cancel_each_message_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [await office.session() for _ in range(2)]
    for session in sessions:
        await _campaign(office, session, 30)
    monkeypatch.setattr(bulk_sends, "BATCH", 7)

    both = await asyncio.gather(*(bulk_sends.cancel(office.queues, ALL) for _ in range(2)))

    assert sum(changed.count for changed in both) == 60
    events = await office.queues.pool.fetchval("SELECT count(*) FROM events WHERE type = 'message.canceled'")
    assert (events, await office.job_states()) == (60, {"cancelled": 60})


@pytest.mark.parametrize(("statuses", "ends_as"), [(CANCELABLE, "canceled"), ({MessageStatus.FAILED}, "queued")])
async def test_a_message_that_is_retried_meanwhile_is_cancelled_with_its_new_job_or_left_with_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, statuses: frozenset[MessageStatus], ends_as: str
) -> None:
    [message] = await _campaign(office, await office.session(), 1)
    await office.queues.pool.execute("UPDATE messages SET status = 'failed'")
    find = message_bulk.meant

    async def then_retry(*arguments: Any, **named: Any) -> Any:
        found = await find(*arguments, **named)
        monkeypatch.setattr(message_bulk, "meant", find)
        failed = Meant(
            tenant_id=DEFAULT_TENANT,
            allowed=None,
            wanted=MessageFilter(ids=[UUID(str(message))]),
            statuses=frozenset({MessageStatus.FAILED}),
        )
        await bulk_sends.retry(office.queues, failed, default_ttl_s=60)
        return found

    monkeypatch.setattr(message_bulk, "meant", then_retry)
    meant = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=frozenset(statuses))
    changed = await bulk_sends.cancel(office.queues, meant)

    assert await office.status(message) == ends_as
    assert changed.count == (ends_as == "canceled")
    living = await office.queues.pool.fetchval("SELECT count(*) FROM jobs WHERE finished_at IS NULL")
    assert living == (ends_as == "queued")
