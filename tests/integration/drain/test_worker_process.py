"""The stock `taskiq worker` over our broker: it starts, dies, stops and comes back as a real process."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.domain.jobs import QueueName
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.drain.conftest import enqueue, job_row, new_job, states, until
from tests.integration.drain.processes import WorkerProcess, worker_process

APP = "worker_app:"
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, secret_key="s" * 32, db_pool_size=8)


@pytest.fixture
async def start_worker(queues: Queues, settings: Settings, tmp_path: Path) -> AsyncIterator[StartWorker]:
    await queues.pool.execute("CREATE TABLE runs (job_id text, pid int, fence bigint, at timestamptz DEFAULT now())")
    with ExitStack() as stack:

        def start(name: str = "broker", **environment: str) -> WorkerProcess:
            folder = tmp_path / f"worker-{len(list(tmp_path.iterdir()))}"
            base = {
                "ZAPHUB_DATABASE_URL": settings.database_url,
                "ZAPHUB_REDIS_URL": settings.redis_url or "",
                "ZAPHUB_SECRET_KEY": "s" * 32,
                "ZAPHUB_SHUTDOWN_GRACE_S": "3",
            }
            return stack.enter_context(worker_process(APP + name, base | environment, folder))

        yield start


async def test_a_worker_runs_jobs_and_a_ring_reaches_it(queues: Queues, start_worker: StartWorker) -> None:
    # The sweep, which makes up for a lost ring, finds nothing here.
    await queues.pool.execute(
        "CREATE OR REPLACE FUNCTION ledger_sweep_v1(p_limit int) "
        "RETURNS TABLE (ended jsonb, ready smallint[], next_due_s float8, swept int) "
        "LANGUAGE sql AS $$ SELECT '[]'::jsonb, '{}'::smallint[], NULL::float8, 0 $$"
    )
    start_worker().child_pid()

    await enqueue(queues, new_job())

    await until(lambda: is_completed(queues))


async def test_an_idle_worker_stops_within_seconds_with_exit_code_0(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.child_pid()

    code = worker.stop()

    assert code == 0


async def test_a_busy_worker_finishes_what_runs_and_gives_back_the_rest(
    queues: Queues, start_worker: StartWorker
) -> None:
    worker = start_worker(ZAPHUB_CONCURRENCY="message:status=2")
    worker.child_pid()
    await enqueue(queues, *(new_job(n, data={"sleep_s": 1.0}) for n in range(6)))
    await until(lambda: has_runs(queues, 2))

    code = worker.stop()

    assert code == 0
    counts = await states(queues)
    assert set(counts) == {"completed", "waiting"}
    assert counts["completed"] >= 2


async def test_a_handler_beyond_the_grace_is_cut_off_and_its_job_given_back(
    queues: Queues, start_worker: StartWorker
) -> None:
    worker = start_worker(ZAPHUB_SHUTDOWN_GRACE_S="0.5")
    worker.child_pid()
    await enqueue(queues, new_job(data={"sleep_s": 60}))
    await until(lambda: has_runs(queues, 1))

    code = worker.stop()

    row = await job_row(queues)
    assert code == 0
    assert (row["state"], row["attempt"], row["stalled"]) == ("waiting", 0, 0)


async def test_a_killed_workers_jobs_finish_elsewhere_within_seconds_each_once(
    queues: Queues, start_worker: StartWorker
) -> None:
    victim = start_worker(ZAPHUB_CONCURRENCY="message:status=10")
    pid = victim.child_pid()
    start_worker(ZAPHUB_CONCURRENCY="message:status=10").child_pid()
    await enqueue(queues, *(new_job(n, data={"sleep_s": 0.1}) for n in range(400)))
    await until(lambda: has_runs(queues, 100))

    os.kill(pid, signal.SIGKILL)
    await until(lambda: is_drained(queues, 400))

    assert await queues.pool.fetchval("SELECT count(*) FROM jobs WHERE stalled = 1") > 0
    ran_twice = "SELECT job_id FROM runs GROUP BY job_id HAVING count(*) > 1"
    assert await queues.pool.fetchval(f"SELECT count(*) FROM jobs WHERE stalled = 0 AND job_key IN ({ran_twice})") == 0


async def test_a_worker_that_was_killed_is_started_again_and_goes_on(queues: Queues, start_worker: StartWorker) -> None:
    worker = start_worker()
    pid = worker.child_pid()
    os.kill(pid, signal.SIGKILL)
    worker.child_pid(other_than=pid)

    await enqueue(queues, new_job())

    await until(lambda: is_completed(queues))


async def test_a_handler_that_blocks_the_loop_past_its_lease_keeps_its_claim(
    queues: Queues, start_worker: StartWorker
) -> None:
    start_worker().child_pid()
    start_worker().child_pid()
    await enqueue(queues, new_job(data={"block_s": 7}))

    await until(lambda: is_completed(queues))

    assert await queues.pool.fetchval("SELECT count(*) FROM runs") == 1
    assert (await job_row(queues))["stalled"] == 0


async def test_two_brokers_that_serve_one_queue_share_its_work(queues: Queues, start_worker: StartWorker) -> None:
    both = [start_worker("broker").child_pid(), start_worker("status_broker").child_pid()]

    await enqueue(queues, *(new_job(n, data={"sleep_s": 0.1}) for n in range(60)))
    await until(lambda: is_drained(queues, 60))

    pids = await queues.pool.fetch("SELECT DISTINCT pid FROM runs")
    assert {row["pid"] for row in pids} == set(both)


async def test_a_broker_of_one_queue_leaves_the_others_alone(queues: Queues, start_worker: StartWorker) -> None:
    start_worker("status_broker").child_pid()

    await enqueue(queues, new_job("other", queue=QueueName.SESSION_CLOSE), new_job())
    await until(lambda: is_completed(queues))

    assert (await job_row(queues, "job-other"))["state"] == "waiting"


async def test_a_job_end_is_one_wide_log_line(queues: Queues, start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.child_pid()
    await enqueue(queues, new_job(data={"sessionId": "s-1", "text": "hush"}))
    await until(lambda: is_completed(queues))
    worker.stop()

    [line] = [line for line in worker.lines() if line["msg"] == "job_ended"]

    assert line | {"time": 0, "duration_ms": 0, "wait_ms": 0} == {
        "level": "info",
        "time": 0,
        "msg": "job_ended",
        "jobId": "job-1",
        "queue": "message:status",
        "sessionId": "s-1",
        "messageDbId": None,
        "attempt": 1,
        "max_attempts": 4,
        "outcome": "done",
        "duration_ms": 0,
        "wait_ms": 0,
    }
    assert "hush" not in worker.log.read_text()


async def is_completed(queues: Queues, job_id: str = "job-1") -> bool:
    state: str = (await job_row(queues, job_id))["state"]
    return state == "completed"


async def is_drained(queues: Queues, count: int) -> bool:
    return await states(queues) == {"completed": count}


async def has_runs(queues: Queues, count: int) -> bool:
    return bool(await queues.pool.fetchval("SELECT count(*) >= $1 FROM runs", count))
