"""While workers are replaced, those of the release before call its functions on the new schema."""

from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import QueueName
from shared.queues.policies import POLICIES

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

RECEIVE = POLICIES[QueueName.MESSAGE_RECEIVE].id
ENQUEUE = """
SELECT job_key, state FROM ledger_enqueue_v1(
  ARRAY[$1, $1]::smallint[], ARRAY['urgent', 'next'], ARRAY['live', 'live'], ARRAY['test', 'test'],
  ARRAY['{}', '{}']::jsonb[],
  ARRAY[7, 7]::smallint[], ARRAY[9, 0]::smallint[], ARRAY['s', 's'], ARRAY['c', 'c'], ARRAY[NULL, NULL]::timestamptz[],
  ARRAY[NULL, NULL]::timestamptz[], ARRAY[4, 4]::smallint[])
"""


@pytest.mark.parametrize(
    ("claim", "order", "finish"),
    [
        ("ledger_claim_v2", "", "ledger_finish_v1"),
        ("ledger_claim_v3", "ORDER BY place", "ledger_finish_v2"),
        ("ledger_claim_v4", "ORDER BY place", "ledger_finish_v3"),
    ],
)
async def test_a_worker_of_a_release_before_goes_on_working(desk: "Desk", claim: str, order: str, finish: str) -> None:
    await desk.add("plain", group="s")
    made = await desk.conn.fetch(ENQUEUE, RECEIVE)
    claimed = await desk.conn.fetch(
        f"SELECT pk, job_key, fence FROM {claim}(ARRAY[$1]::smallint[], ARRAY[5], ARRAY[30], 'old') {order}", RECEIVE
    )
    done = await desk.conn.fetchrow(
        f"SELECT accepted, ready FROM {finish}($1, $2, ARRAY['done', 'done'], ARRAY[0, 0],"
        " ARRAY[NULL, NULL]::jsonb[], ARRAY[NULL, NULL]::jsonb[])",
        [row["pk"] for row in claimed],
        [row["fence"] for row in claimed],
    )

    assert {row["job_key"]: row["state"] for row in made} == {"urgent": "waiting", "next": "blocked"}
    # The greater urgency first, by the index that has taken the place of `rank`.
    assert [row["job_key"] for row in claimed] == ["urgent", "plain"]
    assert done is not None
    assert done["ready"] == [RECEIVE]
    assert await desk.claimed() == ["next"]
