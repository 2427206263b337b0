from shared.db.pool import Connection
from shared.domain.jobs import JobState, NewJob, QueueName
from shared.queues.ledger import Finish, FinishKind, claim, enqueue, finish
from shared.queues.sweep import sweep

SEND = QueueName.MESSAGE_SEND


async def test_smoke(conn: Connection) -> None:
    made = await enqueue(
        conn,
        [
            NewJob(queue=SEND, job_id=f"j{n}", name="send-message", data={"n": n}, group="s1", order_key="c1")
            for n in range(3)
        ],
    )
    assert [m.state for m in made] == [JobState.WAITING, JobState.BLOCKED, JobState.BLOCKED]

    jobs = await claim(conn, slots={SEND: 5}, worker="w")
    assert [j.data for j in jobs] == [{"n": 0}]

    done = await finish(conn, [Finish(pk=jobs[0].pk, fence=jobs[0].fence, queue=SEND, kind=FinishKind.DONE)])
    assert done.accepted == {jobs[0].pk}
    assert done.ready == {SEND}
    swept = await sweep(conn)
    assert swept.ready == {SEND}
