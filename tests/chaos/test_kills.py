"""Session hosts die while they send: `python -m local.soak kills` in small. The long one: docs/reliability.md."""

import sys

import pytest

from local.soak import kills
from local.soak.stand import Layout, Stand

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

SENDS, KILLS = 200, 5


async def test_hosts_that_are_killed_while_they_send_lose_and_double_nothing(stand: Stand, layout: Layout) -> None:
    report = await kills.run(stand, kills.Plan(sends=SENDS, kills=KILLS, layout=layout))

    found = report.findings
    assert len(report.kills) == KILLS
    assert all(kill.seconds for kill in report.kills), "a kill took nobody offline"
    assert (found.accepted, found.lost, found.doubled, found.out_of_order) == (SENDS, [], [], [])
    assert found.frames == {1: SENDS}
    assert (found.wrong_status, found.webhooks_wrong, found.stored_twice) == ([], [], [])
    # A doubt lasts only where a frame was made ready and did not leave: one a session and a kill at the most.
    assert len(report.resolved) <= layout.sessions // layout.children * KILLS
    assert (report.still_in_doubt, report.unexplained) == ([], [])
    assert report.holds
