"""While workers are replaced, those of the release before call its functions on the new schema."""

from typing import TYPE_CHECKING

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


async def test_a_worker_of_the_release_before_goes_on_working(desk: "Desk") -> None:
    await desk.add("plain", group="s")
    made = await desk.conn.fetch(ENQUEUE, RECEIVE)
    claimed = await desk.conn.fetch(
        "SELECT pk, job_key, fence FROM ledger_claim_v2(ARRAY[$1]::smallint[], ARRAY[5], ARRAY[30], 'old')", RECEIVE
    )
    done = await desk.conn.fetchrow(
        "SELECT accepted, ready FROM ledger_finish_v1($1, $2, ARRAY['done', 'done'], ARRAY[0, 0],"
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
