"""A send in doubt, as the worker settles it (DESIGN D6): held for its grace, settled by a receipt, never doubled."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.db import tries
from shared.db.tries import Start
from shared.domain.errors import HostUnreachable
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, MessageId, WireId
from shared.domain.jobs import NewJob, QueueName
from shared.domain.message import MessageStatus
from shared.domain.writes import RecordReceipt
from shared.hosts import protocol
from shared.queues import sends
from tests.integration.sending.conftest import DEVICE, EPOCH, HOST, Office

WIRE = WireId("3EB0AA")
LEFT, CANNOT_SAY = protocol.Left(wire_id=WIRE), protocol.CannotSay(detail="no proof")


class Doubt:
    """A message whose first try was begun, and then its worker died; another one behind it in its chat."""

    def __init__(self, office: Office) -> None:
        self.office = office

    async def begin(self, *, on_unknown: str = "hold") -> None:
        self.session = await self.office.session()
        self.first = await self.message(on_unknown=on_unknown)
        self.second = await self.message()
        async with self.office.queues.pool.acquire() as connection:
            [begun] = await tries.begin(connection, [Start(message_id=self.first, job_id="died")])
        assert begun is not None
        assert begun.is_begun

    async def message(self, **fields: Any) -> MessageId:
        message = await self.office.message(self.session, job=False, **fields)
        job = NewJob(
            queue=QueueName.MESSAGE_SEND,
            job_id=f"msg-{message}",
            name="send",
            data={"messageDbId": str(message), "sessionId": self.session},
            group=self.session,
            order_key="chat",
        )
        async with self.office.queues.transaction() as tx:
            [made] = await tx.enqueue([job])
        await self.office.queues.pool.execute("UPDATE messages SET job_pk = $2 WHERE id = $1", message, made.pk)
        return message

    async def receipt(self) -> None:
        write = RecordReceipt(
            connection_id=ConnectionId(UUID(self.session)),
            wire_id=WIRE,
            status=MessageStatus.DELIVERED,
            at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        async with self.office.queues.transaction() as tx:
            await tx.apply([write])

    async def pass_grace(self) -> None:
        """The grace of 30 s is over, and its job due."""
        await self.office.queues.pool.execute("UPDATE messages SET unknown_at = unknown_at - interval '31 seconds'")
        await self.due()

    async def due(self) -> None:
        await self.office.queues.pool.execute(
            "SELECT ledger_make_due_v1(array_agg(pk)) FROM jobs WHERE state = 'delayed'"
        )

    async def statuses(self) -> tuple[str, str]:
        return await self.office.status(self.first), await self.office.status(self.second)

    @property
    def sent(self) -> list[tuple[UUID, int]]:
        return [(one.message_id, one.send_no) for one in self.office.host.sends]


@pytest.fixture
def doubt(office: Office) -> Doubt:
    return Doubt(office)


@pytest.mark.parametrize("answer", [LEFT, CANNOT_SAY])
async def test_what_may_have_left_is_unknown_holds_its_chat_for_the_grace_and_is_never_sent_again(
    doubt: Doubt, answer: protocol.LookupAnswer
) -> None:
    await doubt.begin()
    doubt.office.host.on_lookup = answer

    await doubt.office.drain()
    assert await doubt.statuses() == ("unknown", "queued")
    assert (await doubt.office.row(doubt.first))["wa_message_id"] == (WIRE if answer is LEFT else None)
    await doubt.due()
    await doubt.office.drain()
    assert await doubt.statuses() == ("unknown", "queued")
    assert doubt.sent == []

    await doubt.pass_grace()
    await doubt.office.drain()
    assert await doubt.statuses() == ("unknown", "sent")
    assert doubt.sent == [(doubt.second, 1)]
    row = await doubt.office.row(doubt.first)
    assert (row["error"]["code"], row["attempts"], row["send_no"]) == ("SEND_UNKNOWN", 1, 1)


async def test_who_wants_it_sent_again_has_it_sent_after_the_grace_under_a_secret_of_its_own(doubt: Doubt) -> None:
    await doubt.begin(on_unknown="resend")
    doubt.office.host.on_lookup = LEFT

    await doubt.office.drain()
    assert doubt.sent == []
    await doubt.pass_grace()
    await doubt.office.drain()

    assert doubt.sent == [(doubt.first, 2), (doubt.second, 1)]
    assert await doubt.statuses() == ("sent", "sent")
    assert doubt.office.host.sends[0].secret not in {one.secret for one in doubt.office.host.lookups}


async def test_a_receipt_within_the_grace_settles_it_as_sent_and_its_chat_goes_on(doubt: Doubt) -> None:
    await doubt.begin(on_unknown="resend")
    doubt.office.host.on_lookup = LEFT
    await doubt.office.drain()

    await doubt.receipt()
    await doubt.due()
    await doubt.office.drain()

    assert await doubt.statuses() == ("delivered", "sent")
    assert doubt.sent == [(doubt.second, 1)]


async def test_a_receipt_that_came_before_anybody_knew_the_wire_id_settles_it_at_once(doubt: Doubt) -> None:
    await doubt.begin()
    await doubt.receipt()
    doubt.office.host.on_lookup = LEFT

    await doubt.office.drain()

    assert await doubt.statuses() == ("delivered", "sent")
    assert doubt.sent == [(doubt.second, 1)]


async def test_a_receipt_after_its_chat_went_on_settles_it_all_the_same(doubt: Doubt) -> None:
    await doubt.begin()
    doubt.office.host.on_lookup = LEFT
    await doubt.office.drain()
    await doubt.pass_grace()
    await doubt.office.drain()

    await doubt.receipt()

    assert await doubt.office.status(doubt.first) == "delivered"
    assert (await doubt.office.row(doubt.first))["error"] is None


async def test_a_try_that_runs_on_its_host_is_waited_for(doubt: Doubt) -> None:
    await doubt.begin()
    doubt.office.host.on_lookup = protocol.Running()
    await doubt.office.drain()
    assert await doubt.statuses() == ("processing", "queued")

    doubt.office.host.on_lookup = protocol.Sent(wire_id=WIRE, at=datetime(2026, 1, 2, tzinfo=UTC))
    await doubt.due()
    await doubt.office.drain()

    assert await doubt.statuses() == ("sent", "sent")
    assert doubt.sent == [(doubt.second, 1)]


@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_persons_word_settles_it_and_its_chat_need_not_wait_for_the_grace(doubt: Doubt, was_sent: bool) -> None:
    await doubt.begin()
    doubt.office.host.on_lookup = CANNOT_SAY
    await doubt.office.drain()

    async with doubt.office.queues.transaction() as tx:
        await sends.resolve(tx, doubt.first, was_sent=was_sent, tenant_id=DEFAULT_TENANT, allowed=None)
    await doubt.office.drain()

    assert await doubt.statuses() == ("sent" if was_sent else "dlq", "sent")
    assert doubt.sent == [(doubt.second, 1)]


async def test_a_timeout_is_a_doubt_and_neither_a_failure_nor_a_reason_to_send_again(doubt: Doubt) -> None:
    doubt.session = await doubt.office.session()
    message = await doubt.message()

    async def time_out(_command: protocol.Send) -> protocol.SendAnswer:
        raise HostUnreachable("no answer in 90 s")

    doubt.office.host.on_send = time_out
    doubt.office.host.on_lookup = LEFT
    await doubt.office.drain()
    await doubt.due()
    await doubt.office.drain()

    assert await doubt.office.status(message) == "unknown"
    assert doubt.sent == [(message, 1)]
    [lookup] = doubt.office.host.lookups
    assert (lookup.send_no, lookup.secret) == (1, doubt.office.host.sends[0].secret)
    assert (lookup.send_host, lookup.send_epoch, lookup.send_device) == (HOST, EPOCH, DEVICE)


async def test_each_try_has_a_secret_of_its_own_so_that_none_is_taken_for_another(doubt: Doubt) -> None:
    await doubt.begin()
    doubt.office.host.on_lookup = protocol.NeverLeft()

    async def break_off(_command: protocol.Send) -> protocol.SendAnswer:
        raise HostUnreachable("broken")

    doubt.office.host.on_send = break_off
    await doubt.office.drain()
    await doubt.due()
    doubt.office.host.on_lookup = LEFT
    await doubt.office.drain()

    assert [one.send_no for one in doubt.office.host.lookups] == [1, 2]
    assert doubt.office.host.lookups[0].secret != doubt.office.host.lookups[1].secret
    assert doubt.office.host.lookups[1].secret == doubt.office.host.sends[0].secret
    assert doubt.sent == [(doubt.first, 2)]
    assert await doubt.statuses() == ("unknown", "queued")


async def test_no_trace_proves_nothing_when_the_store_had_refused_it(doubt: Doubt) -> None:
    await doubt.begin()
    await tries.mark_untraced(doubt.office.queues.pool, [(doubt.first, 1), (doubt.second, 1)])
    doubt.office.host.on_lookup = protocol.NeverLeft()

    await doubt.office.drain()
    await doubt.pass_grace()
    await doubt.office.drain()

    assert await doubt.statuses() == ("unknown", "sent")
    assert doubt.sent == [(doubt.second, 1)]
