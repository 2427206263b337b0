"""A queue's function: one loop and one small pool a container, in time, and bells put back only without a ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.outcome import Done, Outcome, Retry
from shared.queues import ledger
from shared.queues.brokers import QueueModule
from shared.queues.lambda_entry import POOL_AT_LEAST, LambdaEntry
from shared.queues.outage import Outage
from shared.queues.policies import POLICIES, Runtime
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.queues.sweeper import Sweeper
from shared.settings import load
from tests.integration.api.test_outage import relayed
from tests.serverless.conftest import Invocation
from tests.sqs import Bells, bells_in

STATUS = QueueName.MESSAGE_STATUS
EVENT = {"Records": [{"messageId": "one", "body": "message:status"}, {"messageId": "two", "body": "message:status"}]}
DONE = {"batchItemFailures": []}
ALL_AGAIN = {"batchItemFailures": [{"itemIdentifier": "one"}, {"itemIdentifier": "two"}]}


class Left(Invocation):
    """AWS's context, with what is left of the timeout each time that it is asked."""

    def __init__(self, *seconds: float) -> None:
        self._left = list(seconds)

    def get_remaining_time_in_millis(self) -> int:
        """The next of the times, then the last again."""
        return int(1000 * (self._left.pop(0) if len(self._left) > 1 else self._left[0]))


class Container:
    """One container of a queue whose handler is the test's, and what it was seen to do."""

    def __init__(self, handle: Callable[[Job], Awaitable[Outcome]]) -> None:
        self.runs: list[str] = []
        self.loops: set[int] = set()
        self.opened = 0
        self.sizes: set[int] = set()

        async def run(job: Job, _use: None) -> Outcome:
            self.runs.append(job.job_id)
            self.loops.add(id(asyncio.get_running_loop()))
            return await handle(job)

        @asynccontextmanager
        async def open_resources(queues: Queues) -> AsyncIterator[None]:
            self.opened += 1
            self.sizes.add(queues.pool.get_max_size())
            yield

        self.entry: LambdaEntry = QueueModule(
            Work(queue=STATUS, handle=run), open_resources=open_resources, every_work=dict
        ).handler

    async def invoke(self, context: Invocation | None = None) -> dict[str, Any]:
        """As AWS does, in a thread, as the container has its own loop."""
        return await asyncio.to_thread(self.entry, EVENT, context or Invocation())


async def _done(_job: Job) -> Outcome:
    return Done()


@asynccontextmanager
async def _container(handle: Callable[[Job], Awaitable[Outcome]] = _done) -> AsyncIterator[Container]:
    container = Container(handle)
    try:
        yield container
    finally:
        await asyncio.to_thread(container.entry.close)


async def _enqueue(queues: Queues, *names: str) -> None:
    jobs = [NewJob(queue=STATUS, job_id=name, name="test", data={}, max_attempts=3) for name in names]
    async with queues.pool.acquire() as connection:
        await ledger.enqueue(connection, jobs)


async def _jobs(queues: Queues) -> dict[str, tuple[str, int]]:
    rows = await queues.pool.fetch("SELECT job_key, state, attempt FROM jobs")
    return {row["job_key"]: (row["state"], row["attempt"]) for row in rows}


async def test_a_container_has_one_loop_and_one_small_pool_for_all_its_invocations(queues: Queues) -> None:
    async with _container() as container:
        for name in ("a", "b", "c"):
            await _enqueue(queues, name)
            assert await container.invoke() == DONE

        assert container.runs == ["a", "b", "c"]
        assert (len(container.loops), container.opened) == (1, 1)
        assert container.sizes == {max(load().db_pool_size, POOL_AT_LEAST)}


async def test_connections_that_died_while_it_was_frozen_are_opened_again(queues: Queues) -> None:
    async with _container() as container:
        await _enqueue(queues, "before")
        await container.invoke()
        await queues.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await _enqueue(queues, "after")

        assert await container.invoke() == DONE

        assert container.runs == ["before", "after"]
        assert container.opened == 1


async def test_a_lease_outlives_the_longest_invocation(queues: Queues) -> None:
    left: list[float] = []

    async def handle(_job: Job) -> Outcome:
        row = "SELECT EXTRACT(EPOCH FROM lease_until - now())::float8 FROM jobs WHERE state = 'active'"
        left.append(await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(queues.pool.fetchval(row), here)))
        return Done()

    here = asyncio.get_running_loop()
    async with _container(handle) as container:
        await _enqueue(queues, "a")
        await container.invoke()

    assert left
    assert left[0] > POLICIES[STATUS].lambda_timeout_s
    assert all(policy.lease_s(Runtime.LAMBDA) > policy.lambda_timeout_s for policy in POLICIES.values())


async def test_nothing_is_claimed_that_cannot_finish_and_the_next_invocation_is_rung_for(
    queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    async with _container() as container:
        await _enqueue(queues, "a")

        assert await container.invoke(Left(4.5)) == DONE

        assert container.runs == []
        assert await _jobs(queues) == {"a": ("waiting", 0)}
        assert bells_in(sqs_urls[STATUS]) == Bells(ready=1, hidden=0, delayed=0)


async def test_what_does_not_fit_before_the_deadline_is_left_with_its_try_and_rung_for(
    queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    async def handle(_job: Job) -> Outcome:
        # Once fits into this container's 4 s, twice does not.
        await asyncio.sleep(2.1)
        return Done()

    slots = POLICIES[STATUS].concurrency
    async with _container(handle) as container:
        await _enqueue(queues, *(f"job-{number}" for number in range(slots + 2)))

        assert await container.invoke(Left(6)) == DONE

    jobs = await _jobs(queues)
    assert sorted(jobs.values()) == [("completed", 1)] * slots + [("waiting", 0)] * 2
    assert bells_in(sqs_urls[STATUS]).ready >= 1


async def test_a_job_that_fails_is_the_ledgers_to_repeat_and_not_the_bells(
    queues: Queues, sqs_urls: Mapping[QueueName, str]
) -> None:
    async def handle(job: Job) -> Outcome:
        if job.job_id == "broken":
            raise ValueError("broken")
        return Retry(delay_s=30)

    async with _container(handle) as container:
        await _enqueue(queues, "broken", "later")

        assert await container.invoke() == DONE

    assert {state for state, _ in (await _jobs(queues)).values()} == {"delayed"}
    assert bells_in(sqs_urls[STATUS]).delayed == 1


async def test_bells_are_put_back_while_the_ledger_is_away_and_done_when_it_is_back(
    queues: Queues, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relayed(database_url) as (url, relay):
        monkeypatch.setenv("ZAPHUB_DATABASE_URL", url)
        load.cache_clear()
        async with _container() as container:
            await _enqueue(queues, "a")
            await relay.down()
            assert await container.invoke() == ALL_AGAIN, "at its cold start"
            await relay.up()
            assert await container.invoke() == DONE

            await _enqueue(queues, "b")
            await relay.down()
            assert await container.invoke(Left(6)) == ALL_AGAIN, "after it was frozen"
            await relay.up()
            assert await container.invoke() == DONE

            assert container.runs == ["a", "b"]
            assert len(container.loops) == 1


async def test_a_commit_that_cannot_be_made_ends_before_aws_kills_the_container(
    queues: Queues, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relayed(database_url) as (url, relay):
        monkeypatch.setenv("ZAPHUB_DATABASE_URL", url)
        load.cache_clear()
        here = asyncio.get_running_loop()

        async def handle(job: Job) -> Outcome:
            if job.attempt == 1:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(relay.down(), here))
            return Done()

        async with _container(handle) as container:
            await _enqueue(queues, "a")
            assert await container.invoke(Left(5.5)) == ALL_AGAIN
            assert await _jobs(queues) == {"a": ("active", 1)}

            await relay.up()
            await queues.pool.execute("UPDATE jobs SET lease_until = now() - interval '1 second'")
            sweeper = Sweeper(queues, {}, outage=Outage("postgres"), on_turn=lambda: None)
            async with queues.pool.acquire() as connection:
                await sweeper.sweep_once(connection)
            assert await container.invoke() == DONE

            assert await _jobs(queues) == {"a": ("completed", 2)}
