"""Redis and Postgres go away, come back and forget everything, under a real worker."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.embedded import postgres, valkey
from local.embedded.serving import serving
from shared.db.migrate import migrate
from shared.queues import ledger
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.drain.conftest import enqueue, job_row, new_job, states, until
from tests.integration.drain.processes import WorkerProcess, worker_process

CREATE_RUNS = "CREATE TABLE runs (job_id text, pid int, fence bigint, at timestamptz DEFAULT now())"
StartWorker = Callable[[], WorkerProcess]


class Stoppable:
    """An embedded server of this test's own."""

    def __init__(self, server: valkey.EmbeddedValkey | postgres.EmbeddedPostgres, log: Path) -> None:
        self._server = server
        self._log = log
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(serving(self._server, log=self._log))

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="zhd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def redis(folder: Path) -> Iterator[Stoppable]:
    server = Stoppable(valkey.prepare(folder / "valkey", sockets=folder, durable=False), folder / "valkey.log")
    yield server
    server.stop()


@pytest.fixture
def settings(database_url: str, folder: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=f"unix://{folder / 'valkey.sock'}",
        secret_key="s" * 32,
        db_pool_size=8,
    )


@pytest.fixture
async def start_worker(queues: Queues, settings: Settings, folder: Path) -> AsyncIterator[StartWorker]:
    await queues.pool.execute(CREATE_RUNS)
    with ExitStack() as stack:
        yield lambda: stack.enter_context(worker_process("worker_app:broker", _environment(settings), folder / "w"))


async def test_redis_forgets_everything_in_the_middle_and_no_job_is_lost(
    queues: Queues, redis: Stoppable, start_worker: StartWorker
) -> None:
    redis.start()
    start_worker().child_pid()
    await enqueue(queues, *(new_job(n, data={"sleep_s": 0.05}) for n in range(100)))
    await until(lambda: has_completed(queues, 10))

    await queues.bell._carrier._redis.flushall()  # type: ignore[attr-defined]  # the redis bell's own client

    await until(lambda: is_drained(queues, 100))


async def test_redis_stops_and_comes_back_and_the_same_worker_goes_on(
    queues: Queues, redis: Stoppable, start_worker: StartWorker
) -> None:
    redis.start()
    worker = start_worker()
    pid = worker.child_pid()
    await enqueue(queues, new_job(1))
    await until(lambda: is_completed(queues, "job-1"))

    redis.stop()
    await enqueue(queues, new_job(2))
    without_redis_s = await until(lambda: is_completed(queues, "job-2"))
    redis.start()
    await enqueue(queues, new_job(3))
    await until(lambda: is_completed(queues, "job-3"))

    assert without_redis_s < 2
    await until(lambda: "part_came_back" in worker.log.read_text())
    assert worker.child_pid() == pid
    assert [line["msg"] for line in worker.lines()].count("part_went_away") == 1


async def test_a_worker_starts_without_redis(queues: Queues, redis: Stoppable, start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.child_pid()

    await enqueue(queues, new_job(1))
    await until(lambda: is_completed(queues, "job-1"))
    redis.start()
    await until(lambda: "part_came_back" in worker.log.read_text())
    await enqueue(queues, new_job(2))

    await until(lambda: is_completed(queues, "job-2"))


async def test_a_job_whose_bell_was_lost_is_found_by_a_sweep(
    queues: Queues, redis: Stoppable, start_worker: StartWorker
) -> None:
    redis.start()
    start_worker().child_pid()

    async with queues.pool.acquire() as connection:
        await ledger.enqueue(connection, [new_job()])

    await until(lambda: is_completed(queues, "job-1"))


class TestPostgresAway:
    """With a Postgres of the test's own."""

    @pytest.fixture
    def server(self, folder: Path) -> Iterator[Stoppable]:
        sockets = folder / "s"
        sockets.mkdir(mode=0o700)
        server = postgres.prepare(folder / "postgres", sockets=sockets, durable=False)
        self.url = server.url()
        stoppable = Stoppable(server, folder / "postgres.log")
        stoppable.start()
        yield stoppable
        stoppable.stop()

    async def test_a_worker_outlives_postgres_and_finishes_what_it_ran(self, server: Stoppable, folder: Path) -> None:
        await migrate(self.url)
        settings = Settings(database_url=self.url, transport="memory", secret_key="s" * 32)
        with worker_process("worker_app:broker", _environment(settings), folder / "w") as worker:
            async with await Queues.open(settings) as queues:
                await queues.pool.execute(CREATE_RUNS)
                pid = worker.child_pid()
                await enqueue(queues, new_job(1, data={"sleep_s": 1}))
                await until(lambda: has_runs(queues))
                server.stop()
            await until(lambda: "part_went_away" in worker.log.read_text())
            server.start()
            async with await Queues.open(settings) as queues:
                await until(lambda: is_completed(queues, "job-1"))
                await enqueue(queues, new_job(2))
                await until(lambda: is_completed(queues, "job-2"))
                runs = await queues.pool.fetchval("SELECT count(*) FROM runs WHERE job_id = 'job-1'")

            assert runs == 1
            assert worker.child_pid() == pid
            assert [line["part"] for line in worker.lines() if line["msg"] == "part_went_away"].count("postgres") == 1

    async def test_a_worker_waits_for_postgres_at_its_start(self, server: Stoppable, folder: Path) -> None:
        await migrate(self.url)
        settings = Settings(database_url=self.url, transport="memory", secret_key="s" * 32)
        server.stop()
        with worker_process("worker_app:broker", _environment(settings), folder / "w") as worker:
            await until(lambda: "part_went_away" in worker.log.read_text())
            server.start()

            worker.child_pid()

            assert worker.stop() == 0


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "ZAPHUB_DATABASE_URL": settings.database_url,
        "ZAPHUB_REDIS_URL": settings.redis_url or "",
        "ZAPHUB_TRANSPORT": settings.transport,
        "ZAPHUB_SECRET_KEY": "s" * 32,
    }


async def is_completed(queues: Queues, job_id: str) -> bool:
    return bool((await job_row(queues, job_id))["state"] == "completed")


async def is_drained(queues: Queues, count: int) -> bool:
    return await states(queues) == {"completed": count}


async def has_completed(queues: Queues, count: int) -> bool:
    return (await states(queues)).get("completed", 0) >= count


async def has_runs(queues: Queues) -> bool:
    return bool(await queues.pool.fetchval("SELECT count(*) > 0 FROM runs"))
