"""Any sequence of calls leaves the ledger as its promises say: a state machine runs it beside a model in memory.

A failure prints the calls that lead to it, shortened. `derandomize` makes each run the same; for a long search, raise
`max_examples` and take it out.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.db.pool import Connection, connect
from shared.domain.jobs import Dedupe, Job, NewJob, QueueName
from shared.queues import admin, ledger
from shared.queues.ledger import FinishKind
from tests.property.ledger.books import OWN_CLOCK, Books
from tests.property.ledger.model import ENDED

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
# One queue whose groups run many at once, one whose groups send one at a time and are limited by rate.
QUEUES = (QueueName.MESSAGE_RECEIVE, QueueName.MESSAGE_SEND)
REASONS = ("connection_offline", "connection_paused")

queues = st.sampled_from(QUEUES)
groups = st.sampled_from(["a", "b", "c"])
# Times fall due at a step of the clock or between two, and never at the moment at which something else does.
seconds = st.sampled_from([0, 0, 4, 20, 90])
choices = st.lists(st.integers(0, 99), min_size=1, max_size=6)
jobs = st.fixed_dictionaries(
    {
        "queue": queues,
        "job_id": st.integers(0, 40).map("j{}".format),
        "group": st.none() | groups,
        "order_key": st.sampled_from([None, "k", "l"]),
        "urgency": st.sampled_from([0, 0, 9]),
        "priority": st.sampled_from([None, None, 6]),
        "in_s": st.sampled_from([None, None, None, 4, 20]),
        "lives_s": st.sampled_from([None, None, -1, 10, 60]),
        "dedupe": st.sampled_from(Dedupe),
        "max_attempts": st.integers(1, 3),
    }
)


class LedgerMachine(RuleBasedStateMachine):
    """Calls, in any order; `held` is every claim that workers have not ended, lapsed or not."""

    def __init__(self, conn: Connection, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        super().__init__()
        self.run = run
        self.books = Books(conn, now=START)
        self.held: list[Job] = []
        self.moments = 0
        run(self.books.open())

    # -- producers

    @rule(batch=st.lists(jobs, min_size=1, max_size=8))
    def enqueue(self, batch: list[dict[str, Any]]) -> None:
        self.run(self.books.enqueue([self._new_job(**fields) for fields in batch]))

    @rule(queue=queues, crowds=st.lists(st.none() | groups, min_size=2, max_size=3, unique=True))
    def crowd(self, queue: QueueName, crowds: list[str | None]) -> None:
        """More plain jobs in several groups than one claim takes."""
        fields = {"urgency": 0, "in_s": None, "lives_s": None, "queue": queue}
        names = [(group, f"{group}-{n}") for group in crowds for n in range(6)]
        self.run(self.books.enqueue([self._new_job(group=group, job_id=name, **fields) for group, name in names]))

    @rule(picks=choices)
    def cancel(self, picks: list[int]) -> None:
        self.run(self.books.cancel(self._some_pks(picks)))

    @rule(picks=choices)
    def stop(self, picks: list[int]) -> None:
        self.run(self.books.stop([*self._some_pks(picks), *[self._held(n).pk for n in picks if self._is_here(n)]]))

    @rule(picks=choices)
    def make_due(self, picks: list[int]) -> None:
        self.run(self.books.make_due(self._some_pks(picks)))

    @rule(picks=choices)
    def retry(self, picks: list[int]) -> None:
        failed = [pk for pk, job in self.books.model.jobs.items() if job.state == "failed"]
        self.run(self.books.retry([*self._some_pks(picks), *[failed[n % len(failed)] for n in picks if failed]]))

    # -- workers

    @rule(slots=st.dictionaries(queues, st.sampled_from([1, 1, 2, 6]), min_size=1))
    def claim(self, slots: dict[QueueName, int]) -> None:
        self.held += self.run(self.books.claim(slots))

    @precondition(lambda self: self.held)
    @rule(ends=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(FinishKind), seconds), min_size=1, max_size=6))
    def finish(self, ends: list[tuple[int, FinishKind, float]]) -> None:
        chosen = {job.fence: (job, kind, delay_s) for job, kind, delay_s in ((self._held(n), *how) for n, *how in ends)}
        self.run(self.books.finish([(job, kind, self._apart(delay_s)) for job, kind, delay_s in chosen.values()]))
        jobs = [job for job, _, _ in chosen.values()]
        self._drop(jobs)
        self.run(self.books.finish([(jobs[0], FinishKind.FAIL, 0)]))

    @precondition(lambda self: self.held)
    @rule(picks=choices)
    def release(self, picks: list[int]) -> None:
        chosen = self._some_held(picks)
        self.run(self.books.release(chosen))
        self._drop(chosen)

    @precondition(lambda self: self.held)
    @rule(picks=choices)
    def heartbeat(self, picks: list[int]) -> None:
        self.run(self.books.heartbeat(self._some_held(picks)))

    @precondition(lambda self: self.held)
    @rule(picks=choices)
    def lapse(self, picks: list[int]) -> None:
        for job in self._some_held(picks):
            self.run(self.books.lapse(job))

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99), times=st.integers(1, 4))
    def die_with_it(self, pick: int, times: int) -> None:
        """A job is taken back from a dead worker and claimed again, several times over; the dead may yet speak."""
        job = self._held(pick)
        for _ in range(times):
            self.run(self.books.lapse(job))
            self.run(self.books.sweep(500))
            claimed = self.run(self.books.claim(dict.fromkeys(QUEUES, 20)))
            self.held += claimed
            job = next((again for again in claimed if again.pk == job.pk), job)

    # -- time

    @rule(seconds=st.sampled_from([1, 4.5, 10.5, 31, 100]), workers_live=st.booleans())
    def elapse(self, seconds: float, *, workers_live: bool) -> None:
        self.run(self.books.elapse(seconds))
        if workers_live and self.held:
            self.run(self.books.heartbeat(self._some_held(list(range(len(self.held))))))

    @rule(limit=st.sampled_from([1, 2, 500, 500]))
    def sweep(self, limit: int) -> None:
        self.run(self.books.sweep(limit))

    # -- operators

    @rule(queue=queues, paused=st.booleans())
    def pause_queue(self, queue: QueueName, *, paused: bool) -> None:
        self.run((admin.pause_queue if paused else admin.resume_queue)(self.books.conn, queue))
        (self.books.model.paused.add if paused else self.books.model.paused.discard)(queue)

    @rule(queue=queues, group=groups, reason=st.sampled_from(REASONS))
    def pause_group(self, queue: QueueName, group: str, reason: str) -> None:
        self.run(ledger.pause_group(self.books.conn, queue, group, reason))
        self.books.model.group(queue, group).reasons.add(reason)

    @rule(queue=queues, group=groups, reason=st.sampled_from(REASONS))
    def resume_group(self, queue: QueueName, group: str, reason: str) -> None:
        self.run(self.books.resume_group(queue, group, reason))

    @rule(
        queue=queues,
        group=groups,
        cap=st.sampled_from([None, 1, 2]),
        rate_per_minute=st.sampled_from([None, 0, 6, 60]),
        burst=st.sampled_from([None, 1, 3]),
        weight=st.sampled_from([None, 1, 3]),
    )
    def set_group(self, queue: QueueName, group: str, **limits: int | None) -> None:
        weight = limits.pop("weight")
        self.run(self.books.set_group(queue, group, limits, weight=weight))

    @rule(
        queue=queues,
        state=st.sampled_from(ENDED),
        older_than_s=st.sampled_from([0, 15, 70]),
        keep=st.sampled_from([0, 0, 3]),
        batch=st.sampled_from([1, 100]),
    )
    def clean(self, queue: QueueName, state: str, older_than_s: float, keep: int, batch: int) -> None:
        self.run(self.books.clean(queue, state, older_than_s=older_than_s, keep=keep, batch=batch))

    @invariant()
    def agrees(self) -> None:
        self.run(self.books.check())

    def teardown(self) -> None:
        self.run(self._everything_ends())

    async def _everything_ends(self) -> None:
        """Once nothing is held back, whatever is left ends: no job is stuck or forgotten."""
        await admin.resume_all(self.books.conn)
        self.books.model.paused.clear()
        for queue, group in list(self.books.model.groups):
            for reason in REASONS:
                await self.books.resume_group(queue, group, reason)
        for _ in range(60):
            await self.books.elapse(100)
            await self.books.sweep(500)
            await self.books.finish(
                [(job, FinishKind.DONE, 0) for job in await self.books.claim(dict.fromkeys(QUEUES, 50))]
            )
            if all(job.finished_at for job in self.books.model.jobs.values()):
                break
        await self.books.check()
        assert all(job.finished_at for job in self.books.model.jobs.values()), "a job is stuck"

    def _new_job(self, *, in_s: float | None, lives_s: float | None, **fields: Any) -> NewJob:
        now = self.books.model.now
        return NewJob(
            name="test",
            data={},
            run_at=None if in_s is None else now + timedelta(seconds=self._apart(in_s)),
            expires_at=None if lives_s is None else now + timedelta(seconds=self._apart(lives_s)),
            **fields,
        )

    def _apart(self, delay_s: float) -> float:
        """A delay that ends at a moment of its own, so that it is certain what falls due first."""
        self.moments += 1
        return delay_s + self.moments / 1_000_000 if delay_s else 0.0

    def _some_pks(self, picks: list[int]) -> list[int]:
        pks = list(self.books.model.jobs)
        return [pks[n % len(pks)] for n in picks] if pks else []

    def _some_held(self, picks: list[int]) -> list[Job]:
        """One claim of each job: the dead one's or the living one's."""
        return list({job.pk: job for job in map(self._held, picks)}.values())

    def _held(self, pick: int) -> Job:
        return self.held[pick % len(self.held)]

    def _is_here(self, pick: int) -> bool:
        return bool(self.held) and self._held(pick).pk in self.books.model.jobs

    def _drop(self, jobs: list[Job]) -> None:
        fences = {job.fence for job in jobs}
        self.held = [job for job in self.held if job.fence not in fences]


def test_no_sequence_of_calls_breaks_a_promise(database_url: str) -> None:
    bounded = settings(
        max_examples=50,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    search(database_url, bounded)


def search(database_url: str, how: settings) -> None:
    """Run the machine on an empty, migrated database of its own."""
    with asyncio.Runner() as runner:
        opened = connect(database_url)
        conn = runner.run(opened.__aenter__())
        try:
            runner.run(conn.execute(OWN_CLOCK))
            run_state_machine_as_test(lambda: LedgerMachine(conn, runner.run), settings=how)
        finally:
            runner.run(opened.__aexit__(None, None, None))
