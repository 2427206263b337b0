"""What each outcome means for the ledger, without one."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.domain.ids import MessageId
from shared.domain.jobs import Job, QueueName
from shared.domain.message import MessageStatus
from shared.domain.outcome import Done, Failure, Outcome, Park, Retry
from shared.domain.writes import MoveMessage
from shared.queues.ledger import FinishKind
from shared.queues.outage import Outage
from shared.queues.registry import Work
from shared.queues.runner import conclude, ending

FAILURE = Failure(code="HOST_UNREACHABLE", detail="no answer")


async def handle(_job: Job, _use: object) -> Outcome:
    return Done()


WORK = Work(queue=QueueName.MESSAGE_SEND, handle=handle)


def job(*, attempt: int = 1, group: str | None = "s") -> Job:
    return Job(
        pk=1,
        job_id="msg-send-1",
        queue=QueueName.MESSAGE_SEND,
        name="send-message",
        data={},
        attempt=attempt,
        max_attempts=6,
        stalled=0,
        fence=7,
        group=group,
        order_key=None,
        priority=5,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 2), (2, 6), (3, 18), (4, 54), (5, 162)])
def test_a_retry_takes_the_delay_of_its_attempt(attempt: int, delay_s: float) -> None:
    end = ending(WORK, job(attempt=attempt), Retry(failure=FAILURE))

    assert (end.finish.kind, end.finish.delay_s) == (FinishKind.RETRY, delay_s)


def test_a_park_without_a_group_looks_again_instead_of_waiting_for_ever() -> None:
    end = ending(WORK, job(group=None), Park(reason="connection_offline"))

    assert (end.finish.kind, end.finish.delay_s) == (FinishKind.SNOOZE, 5)


def test_only_what_happened_on_the_wire_is_a_fact() -> None:
    message = MessageId(UUID(int=1))
    sent = MoveMessage(message_id=message, to=MessageStatus.SENT)
    failed = MoveMessage(message_id=message, to=MessageStatus.FAILED)

    assert ending(WORK, job(), Done(writes=(failed, sent))).facts == (sent,)


def test_a_delay_that_is_no_number_is_a_failed_try_not_a_crash() -> None:
    end = conclude(WORK, job(), Retry(failure=FAILURE, delay_s="soon"))  # type: ignore[arg-type]  # the mistake

    assert (end.finish.kind, end.finish.delay_s) == (FinishKind.RETRY, 2)


async def test_an_outage_waits_longer_each_time_and_at_most_two_seconds() -> None:
    outage = Outage("postgres")

    delays = [outage.began(OSError()) for _ in range(7)]

    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    outage.ended()
    assert outage.began(OSError()) == 0.1
