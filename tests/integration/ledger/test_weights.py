"""Groups of different weight: as many jobs per turn as they weigh, whatever the size of the claims."""

from typing import TYPE_CHECKING

import pytest

from shared.db.pool import Connection
from shared.domain.jobs import QueueName
from shared.queues.ledger import set_group

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = QueueName.MESSAGE_RECEIVE
JOBS = 60


async def backlog(desk: "Desk", **weights: int) -> None:
    """JOBS jobs for each of these groups."""
    for group, weight in weights.items():
        await set_group(desk.conn, RECEIVE, group, cap=1000, weight=weight)
        await desk.add(*(f"{group}-{n}" for n in range(JOBS)), group=group)


async def served(desk: "Desk", jobs: int, *, at_once: int) -> dict[str, int]:
    """How many of each group the next `jobs` claims brought, claimed `at_once` and ended at once."""
    counts: dict[str, int] = {}
    while jobs > 0:
        claimed = await desk.claim(min(at_once, jobs))
        jobs -= len(claimed)
        for job in claimed:
            counts[job.group or ""] = counts.get(job.group or "", 0) + 1
        await desk.end(claimed)
    return counts


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 7, 20])
async def test_of_two_backlogs_the_heavier_gets_its_share(desk: "Desk", at_once: int) -> None:
    await backlog(desk, heavy=3, light=1)

    counts = await served(desk, 40, at_once=at_once)

    assert counts["heavy"] == pytest.approx(30, abs=3)


@pytest.mark.parametrize("at_once", [1, 5])
async def test_a_heavy_group_keeps_no_other_out(desk: "Desk", at_once: int) -> None:
    await backlog(desk, heavy=10, a=1, b=1, c=1)

    counts = await served(desk, 26, at_once=at_once)

    assert min(counts[group] for group in "abc") >= 1
    assert counts["heavy"] == pytest.approx(20, abs=10)


@pytest.mark.parametrize("at_once", [1, 3, 10])
async def test_groups_that_weigh_the_same_are_served_alike(desk: "Desk", at_once: int) -> None:
    await backlog(desk, a=4, b=4, c=4)

    counts = await served(desk, 48, at_once=at_once)

    assert max(counts.values()) - min(counts.values()) <= 4


async def test_a_heavy_group_keeps_its_cap(desk: "Desk") -> None:
    await backlog(desk, heavy=50, light=1)
    await set_group(desk.conn, RECEIVE, "heavy", cap=2)

    claimed = await desk.claim(20)

    assert sum(job.group == "heavy" for job in claimed) == 2


async def test_a_weight_stays_when_the_limits_are_set(desk: "Desk") -> None:
    await set_group(desk.conn, RECEIVE, "g", weight=7)
    await set_group(desk.conn, RECEIVE, "g", cap=5)

    assert ((await desk.group("g"))["weight"], (await desk.group("g"))["cap"]) == (7, 5)


async def test_a_weight_that_sinks_below_what_was_served_ends_the_turn(desk: "Desk", conn: Connection) -> None:
    await backlog(desk, heavy=9, light=1)
    await served(desk, 6, at_once=1)
    await set_group(conn, RECEIVE, "heavy", weight=1)
    await set_group(conn, RECEIVE, "heavy", cap=1000)

    counts = await served(desk, 10, at_once=1)

    assert counts["light"] == pytest.approx(5, abs=1)
