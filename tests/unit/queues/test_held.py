"""What a process holds, when it has claimed a job again whose first claim it lost without noticing."""

import asyncio
from datetime import UTC, datetime

from shared.domain.jobs import Job, QueueName
from shared.queues.held import Held


def _claim(fence: int, pk: int = 1) -> Job:
    return Job(
        pk=pk,
        job_id=f"job-{pk}",
        queue=QueueName.MESSAGE_STATUS,
        name="test",
        data={},
        attempt=1,
        max_attempts=4,
        stalled=0,
        fence=fence,
        group=None,
        order_key=None,
        priority=4,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_the_end_of_a_lost_claim_leaves_the_new_one_its_heartbeat() -> None:
    held = Held()
    held.take([_claim(1)])
    held.take([_claim(2)])

    held.drop([_claim(1)])

    assert held.claims()[0] == {1: 2}
    held.drop([_claim(2)])
    assert held.count() == 0


async def test_a_handler_is_stopped_with_its_own_claim_also_after_the_lost_one_ended() -> None:
    held = Held()
    never = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(never.wait()) for _ in range(2)]
        for fence, task in enumerate(tasks):
            held.take([_claim(fence)])
            held.started([_claim(fence)], task)
        tasks[0].cancel()
        held.ended([_claim(0)])
        held.drop([_claim(0)])

        assert [job.fence for job in held.lose({1})] == [1]
    assert tasks[1].cancelled()
