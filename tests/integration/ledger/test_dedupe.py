"""How long a job's id keeps another job of that id out."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import Dedupe, JobState
from shared.queues.ledger import FinishKind

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk


async def test_an_id_is_unique_until_its_job_ends(desk: "Desk") -> None:
    [first] = await desk.add("a", group="s")

    [waiting] = await desk.add("a", group="s")
    jobs = await desk.claim()
    [active] = await desk.add("a", group="s")
    await desk.end(jobs)
    [fresh] = await desk.add("a", group="s")

    assert (waiting.deduplicated, waiting.pk, waiting.state) == (True, first.pk, JobState.WAITING)
    assert (active.deduplicated, active.pk, active.state) == (True, first.pk, JobState.ACTIVE)
    assert (fresh.deduplicated, fresh.state) == (False, JobState.WAITING)
    assert fresh.pk != first.pk


@pytest.mark.parametrize("kind", [FinishKind.RETRY, FinishKind.PARK, FinishKind.SNOOZE, FinishKind.UNKNOWN])
async def test_an_id_is_kept_through_retries(desk: "Desk", kind: FinishKind) -> None:
    [first] = await desk.add("a", group="s")
    await desk.end(await desk.claim(), kind, 60)

    [again] = await desk.add("a", group="s")

    assert (again.deduplicated, again.pk) == (True, first.pk)


async def test_a_look_again_job_may_wait_once_while_one_runs(desk: "Desk") -> None:
    await desk.add("look", group="s", dedupe=Dedupe.WAITING)
    await desk.claim()

    [second] = await desk.add("look", group="s", dedupe=Dedupe.WAITING)
    [third] = await desk.add("look", group="s", dedupe=Dedupe.WAITING)

    assert second.deduplicated is False
    assert (third.deduplicated, third.pk) == (True, second.pk)


async def test_a_look_again_job_that_retries_beside_a_new_one_does_no_harm(desk: "Desk") -> None:
    await desk.add("look", dedupe=Dedupe.WAITING)
    jobs = await desk.claim()
    await desk.add("look", dedupe=Dedupe.WAITING)

    await desk.end(jobs, FinishKind.RETRY)

    assert await desk.claimed() == ["look", "look"]


async def test_a_batch_answers_in_its_own_order(desk: "Desk") -> None:
    await desk.add("b", group="s")

    answers = await desk.add("a", "b", "c", "a", group="s")

    assert [(a.job_id, a.deduplicated) for a in answers] == [("a", False), ("b", True), ("c", False), ("a", True)]
    assert answers[0].pk == answers[3].pk


async def test_a_deduplicated_head_of_a_batch_leaves_no_follower_stuck(desk: "Desk") -> None:
    await desk.add("a", group="elsewhere")

    answers = await desk.add("a", "b", "c", group="s", order_key="c")

    assert [a.state for a in answers[1:]] == [JobState.WAITING, JobState.BLOCKED]


async def test_an_empty_batch_is_no_work(desk: "Desk") -> None:
    assert await desk.add() == []


async def test_a_thousand_jobs_in_one_batch_keep_their_order(desk: "Desk") -> None:
    names = [f"j{n:04}" for n in reversed(range(1000))]

    await desk.add(*names)

    assert await desk.claimed(1000) == names
