"""The real ledger beside its model: every call goes to both, and afterwards every row must agree."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shared.db.pool import Connection, Record
from shared.domain.jobs import Job, JobState, NewJob, QueueName
from shared.queues import admin, ledger, running
from shared.queues.ledger import Finish, FinishKind
from shared.queues.metrics import queue_metrics
from shared.queues.policies import QUEUE_OF_ID, WORKER_LEASE_S
from tests.property.ledger.claims import Turn, check_claim
from tests.property.ledger.model import ModelJob, ModelLedger

# The database's clock for this connection: a name that is looked up before pg_catalog's.
OWN_CLOCK = """
CREATE SCHEMA clock;
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
  $$ SELECT current_setting('clock.now')::timestamptz $$;
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
  $$ SELECT current_setting('clock.now')::timestamptz $$;
ALTER TABLE jobs ALTER created_at SET DEFAULT clock.now();
"""
ROWS = """
SELECT pk, job_key, queue, state, grp, ord, attempt, stalled, fence, position, run_at, lease_until, expires_at,
       finished_at, dedupe
  FROM jobs ORDER BY pk
"""
GROUPS = """
SELECT g.queue, g.grp, g.pending, g.busy, g.reasons, g.turn, g.weight, g.served,
       ledger_tokens_v1(g.tat, coalesce(g.rate_per_minute, q.rate_per_minute), coalesce(g.burst, q.burst)) AS tokens
  FROM job_groups g JOIN queues q ON q.id = g.queue
"""
# A lease like no other, so that it is certain which lapse first.
OWN_LEASES = "UPDATE jobs SET lease_until = lease_until + pk * interval '1 microsecond' WHERE pk = ANY($1)"


class Books:
    """One empty ledger, and what ought to be in it."""

    def __init__(self, conn: Connection, *, now: datetime) -> None:
        self.conn = conn
        self.model = ModelLedger(now)
        self._last_fence = 0

    async def open(self) -> None:
        await self.conn.execute("SET search_path = clock, pg_catalog, public")
        await self.conn.execute("DELETE FROM jobs")
        await self.conn.execute("DELETE FROM job_groups")
        await self.conn.execute("DELETE FROM job_endings")
        await self.conn.execute("UPDATE job_count_changes SET at = 'epoch'")
        await admin.resume_all(self.conn)
        self._last_fence = await self.conn.fetchval(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ledger_fences"
        )
        await self.elapse(0)

    async def elapse(self, seconds: float) -> None:
        self.model.now += timedelta(seconds=seconds)
        await self.conn.execute("SELECT set_config('clock.now', $1, false)", self.model.now.isoformat())

    # -- calls, each with what it promises by itself

    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        before = set(self.model.jobs)
        answers = await ledger.enqueue(self.conn, jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if job.group is not None:
                self.model.group(job.queue, job.group)
            holder = self.model.holder_of(job.job_id)
            assert answer.deduplicated == (holder is not None), f"{job.job_id}: dedupe"
            if holder is None:
                assert answer.pk not in before, "a new job has an old number"
                self.model.make(job, answer.pk)
            else:
                assert answer.pk == holder.pk
        for answer in answers:
            assert answer.state == self.model.jobs[answer.pk].state

    async def claim(self, slots: Mapping[QueueName, int]) -> list[Job]:
        turns = {(QUEUE_OF_ID[g["queue"]], g["grp"]): Turn.of(g) for g in await self.conn.fetch(GROUPS)}
        jobs = await ledger.claim(self.conn, slots=slots, worker="w")
        check_claim(self.model, jobs, slots=slots, turns=turns)
        for job in jobs:
            assert job.fence > self._last_fence, "a fence was given twice"
            model = self.model.jobs[job.pk]
            assert (job.queue, job.group, job.order_key) == (model.new.queue, model.new.group, model.new.order_key)
            self.model.start(model, job.fence)
            assert (job.attempt, job.stalled, job.is_canceled) == (model.attempt, model.stalled, model.is_canceled)
        self._last_fence = max([self._last_fence, *[job.fence for job in jobs]])
        await self._own_leases([job.pk for job in jobs])
        return jobs

    async def finish(self, ends: Sequence[tuple[Job, FinishKind, float]]) -> None:
        claimable = self.model.claimable()
        done = await ledger.finish(
            self.conn,
            [
                Finish(pk=job.pk, fence=job.fence, queue=job.queue, kind=kind, delay_s=delay_s)
                for job, kind, delay_s in ends
            ],
        )
        holding = [(self.model.jobs[job.pk], kind, delay_s) for job, kind, delay_s in ends if self.holds(job)]
        for model, kind, delay_s in holding:
            self.model.finish(model, kind, delay_s)
        self.model.settle()
        assert done.accepted == {model.pk for model, _, _ in holding}
        assert done.dead == {model.pk for model, _, _ in holding if model.state == "failed"}
        delays = [delay_s for model, _, delay_s in holding if model.state == "delayed"]
        assert done.next_due_s == min(delays, default=None)
        self._check_rung(done.ready, claimable)

    async def release(self, jobs: Sequence[Job]) -> None:
        claimable = self.model.claimable()
        ready = await ledger.release(self.conn, {job.pk: job.fence for job in jobs})
        for job in jobs:
            if self.holds(job):
                self.model.finish(self.model.jobs[job.pk], FinishKind.PARK, 0)
        self._check_rung(ready, claimable)

    async def heartbeat(self, jobs: Sequence[Job]) -> None:
        lost = await ledger.heartbeat(self.conn, {job.pk: job.fence for job in jobs})
        assert lost == {job.pk for job in jobs if not self.holds(job)}
        for job in jobs:
            if self.holds(job):
                self.model.jobs[job.pk].lease_until = self.model.now + timedelta(seconds=WORKER_LEASE_S)
        await self._own_leases([job.pk for job in jobs if self.holds(job)])

    async def lapse(self, job: Job) -> None:
        """The worker that holds it is gone for longer than its lease."""
        await self.conn.execute(
            "UPDATE jobs SET lease_until = clock.now() - interval '1 s' WHERE fence = $1", job.fence
        )
        if self.holds(job):
            self.model.jobs[job.pk].lease_until = self.model.now - timedelta(seconds=1)
            await self._own_leases([job.pk])

    async def sweep(self, limit: int) -> None:
        swept = await ledger.sweep(self.conn, limit=limit)
        assert sorted((end.pk, end.why) for end in swept.ended) == self.model.sweep(limit)
        assert {self.model.jobs[pk].new.queue for pk in self.model.claimable()} <= swept.ready

    async def cancel(self, pks: Sequence[int]) -> None:
        assert await ledger.cancel(self.conn, pks=pks) == self.model.cancel(pks)

    async def stop(self, pks: Sequence[int]) -> None:
        assert await running.stop(self.conn, pks) == self.model.stop(pks)
        canceled = {pk for pk, job in self.model.jobs.items() if job.is_canceled and job.fence}
        assert await running.canceled(self.conn, list(self.model.jobs)) >= canceled

    async def make_due(self, pks: Sequence[int]) -> None:
        assert await ledger.make_due(self.conn, pks) == self.model.make_due(pks)

    async def retry(self, pks: Sequence[int]) -> None:
        revived = await ledger.retry(self.conn, pks)
        assert revived == self.model.revivable(pks)
        rows = await self.conn.fetch("SELECT pk FROM jobs WHERE pk = ANY($1) ORDER BY position", list(revived))
        self.model.revive([row["pk"] for row in rows])

    async def clean(self, queue: QueueName, state: str, *, older_than_s: float, keep: int, batch: int) -> None:
        deleted = await admin.clean(
            self.conn, queue, JobState(state), older_than_s=older_than_s, keep=keep, batch=batch
        )
        assert deleted == self.model.clean(queue, state, older_than_s=older_than_s, keep=keep, batch=batch)

    async def set_group(
        self, queue: QueueName, group: str, limits: Mapping[str, int | None], *, weight: int | None
    ) -> None:
        await ledger.set_group(self.conn, queue, group, weight=weight, **limits)
        model = self.model.group(queue, group)
        model.cap, model.rate_per_minute, model.burst = limits["cap"], limits["rate_per_minute"], limits["burst"]

    async def resume_group(self, queue: QueueName, group: str, reason: str) -> None:
        has_work = await ledger.resume_group(self.conn, queue, group, reason)
        found = self.model.groups.get((queue, group))
        if found is None or reason not in found.reasons:
            assert not has_work
            return
        found.reasons.remove(reason)
        assert has_work == (not found.reasons and bool(self.model.of_group((queue, group), "waiting")))

    # -- what must hold after every call

    async def check(self) -> None:
        rows = {row["pk"]: row for row in await self.conn.fetch(ROWS)}
        assert rows.keys() == self.model.jobs.keys(), "a job came or went by itself"
        for pk, row in rows.items():
            assert _seen(row) == _expected(self.model.jobs[pk])
        assert _in_place({pk: row["position"] for pk, row in rows.items()}) == _in_place(
            {pk: job.place for pk, job in self.model.jobs.items()}
        )
        self._check_order_keys(rows)
        groups = {(QUEUE_OF_ID[g["queue"]], g["grp"]): g for g in await self.conn.fetch(GROUPS)}
        assert groups.keys() == self.model.groups.keys()
        for key, group in groups.items():
            expected = self.model.groups[key]
            counted = tuple(len(self.model.of_group(key, state)) for state in ("waiting", "active"))
            assert (group["pending"], group["busy"]) == counted, f"{key}: counters"
            assert (set(group["reasons"]), group["tokens"]) == (expected.reasons, self.model.tokens(key))
        for found in await queue_metrics(self.conn):
            for name, value in self.model.metrics(QueueName(found["name"])).items():
                assert found[name] == value, f"{found['name']}: {name}"
        await self._check_due()

    def holds(self, job: Job) -> bool:
        return job.pk in self.model.jobs and self.model.jobs[job.pk].fence == job.fence

    def _check_rung(self, ready: set[QueueName], claimable_before: set[int]) -> None:
        fresh = self.model.claimable() - claimable_before
        assert {self.model.jobs[pk].new.queue for pk in fresh} <= ready, "nobody is told of new work"

    def _check_order_keys(self, rows: Mapping[int, Record]) -> None:
        for key in {job.key for job in self.model.jobs.values() if job.key}:
            states = [rows[job.pk]["state"] for job in self.model.chain(key)]
            assert states.count("active") <= 1
            assert all(state == "blocked" for state in states[1:]), f"{key}: overtaken"
            assert states[:1] != ["blocked"], f"{key}: stuck"

    async def _check_due(self) -> None:
        due_s = await ledger.next_due_s(self.conn, list(QueueName))
        if self.model.claimable():
            assert due_s == 0
        elif due_s != 0:
            expected = self.model.due_in_s()
            assert (due_s is None) == (expected is None)
            assert due_s is None or expected is None or abs(due_s - expected) < 0.001

    async def _own_leases(self, pks: Sequence[int]) -> None:
        await self.conn.execute(OWN_LEASES, pks)
        for pk in pks:
            job = self.model.jobs[pk]
            job.lease_until = job.lease_until and job.lease_until + timedelta(microseconds=pk)


def _seen(row: Record) -> dict[str, object]:
    names = ("state", "attempt", "stalled", "fence", "run_at", "lease_until", "expires_at", "finished_at", "dedupe")
    return {name: row[name] for name in names} | {"id": row["job_key"], "queue": QUEUE_OF_ID[row["queue"]]}


def _expected(job: ModelJob) -> dict[str, object]:
    return {
        "state": job.state,
        "attempt": job.attempt,
        "stalled": job.stalled,
        "fence": job.fence,
        "run_at": job.run_at,
        "lease_until": job.lease_until,
        "expires_at": job.expires_at,
        "finished_at": job.finished_at,
        "dedupe": job.dedupe,
        "id": job.new.job_id,
        "queue": job.new.queue,
    }


def _in_place(places: Mapping[int, int | None]) -> list[int]:
    return sorted((pk for pk, place in places.items() if place is not None), key=lambda pk: places[pk] or 0)
