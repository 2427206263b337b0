"""The ledger as its documents promise it, in plain Python: what the real one is compared with, call by call.

One class in one module, as all of its promises are about the same rows.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.domain.jobs import Dedupe, NewJob, QueueName
from shared.queues.ledger import FinishKind
from shared.queues.policies import POLICIES, WORKER_LEASE_S

RATE_WINDOW_S = 60
ENDED = ("completed", "failed", "cancelled")
Key = tuple[QueueName, str | None, str]
GroupKey = tuple[QueueName, str]


@dataclass(slots=True)
class ModelJob:
    """One job. `place` is None until a scheduled job falls due; `fence` is None unless it is active."""

    pk: int
    new: NewJob
    state: str
    run_at: datetime
    created_at: datetime
    expires_at: datetime | None
    place: int | None
    dedupe: Dedupe | None
    attempt: int = 0
    stalled: int = 0
    is_canceled: bool = False
    fence: int | None = None
    lease_until: datetime | None = None
    finished_at: datetime | None = None

    @property
    def rank(self) -> int:
        priority = POLICIES[self.new.queue].priority if self.new.priority is None else self.new.priority
        return priority * 10 + self.new.urgency

    @property
    def key(self) -> Key | None:
        return None if self.new.order_key is None else (self.new.queue, self.new.group, self.new.order_key)

    @property
    def max_attempts(self) -> int:
        return self.new.max_attempts or POLICIES[self.new.queue].max_attempts


@dataclass(slots=True)
class ModelGroup:
    """What jobs of one group share. None is the queue's own number."""

    tat: datetime
    cap: int | None = None
    rate_per_minute: int | None = None
    burst: int | None = None
    reasons: set[str] = field(default_factory=set)


class ModelLedger:
    """The books. `now` moves only when the test moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.jobs: dict[int, ModelJob] = {}
        self.groups: dict[GroupKey, ModelGroup] = {}
        self.paused: set[QueueName] = set()
        self.endings: list[tuple[QueueName, str, datetime]] = []
        self._places = 0

    # -- what a caller may do

    def holder_of(self, job_id: str) -> ModelJob | None:
        """The job that keeps others of this id out."""
        return next((job for job in self.jobs.values() if job.new.job_id == job_id and job.dedupe), None)

    def make(self, new: NewJob, pk: int) -> ModelJob:
        is_later = new.run_at is not None and new.run_at > self.now
        job = ModelJob(
            pk=pk,
            new=new,
            state="delayed" if is_later else "waiting",
            run_at=new.run_at or self.now,
            created_at=self.now,
            expires_at=new.expires_at,
            place=None if is_later else self._next_place(),
            dedupe=new.dedupe,
        )
        if job.state == "waiting" and job.key is not None and self.chain(job.key):
            job.state = "blocked"
        self.jobs[pk] = job
        return job

    def group(self, queue: QueueName, name: str) -> ModelGroup:
        return self.groups.setdefault((queue, name), ModelGroup(tat=datetime.fromtimestamp(0, self.now.tzinfo)))

    def start(self, job: ModelJob, fence: int) -> None:
        job.state, job.fence, job.attempt = "active", fence, job.attempt + 1
        job.lease_until = self.now + timedelta(seconds=WORKER_LEASE_S)
        if job.dedupe is Dedupe.WAITING:
            job.dedupe = None
        self._take_tokens(job, 1)

    def finish(self, job: ModelJob, kind: FinishKind, delay_s: float) -> None:
        is_out = kind is FinishKind.RETRY and job.attempt >= job.max_attempts
        job.fence = job.lease_until = None
        if kind in {FinishKind.PARK, FinishKind.SNOOZE}:
            job.attempt -= 1
        if kind in {FinishKind.PARK, FinishKind.SNOOZE, FinishKind.CANCEL}:
            self._take_tokens(job, -1)
        if kind is FinishKind.DONE:
            self._end(job, "completed")
        elif kind is FinishKind.FAIL or is_out:
            self._end(job, "failed")
        elif kind is FinishKind.CANCEL:
            self._end(job, "cancelled")
        elif kind is not FinishKind.PARK and delay_s > 0:
            job.state, job.run_at = "delayed", self.now + timedelta(seconds=delay_s)
        else:
            job.state = "waiting"

    def sweep(self, limit: int) -> list[tuple[int, str]]:
        """Which jobs it ended and why."""
        jobs = list(self.jobs.values())
        leases = [(job.lease_until, job) for job in jobs if job.lease_until and job.lease_until <= self.now]
        lapsed = [job for _, job in sorted(leases, key=lambda pair: pair[0])]
        due = [j for queue in QueueName for j in self._first_due(queue, limit)]
        expired = [j for queue in QueueName for j in self._first_expired(queue, limit)]
        ended = [(job.pk, "expired") for job in expired]
        for job in expired:
            self._end(job, "cancelled")
        for job in lapsed[:limit]:
            job.stalled, job.fence, job.lease_until = job.stalled + 1, None, None
            job.state = "waiting"
            if job.stalled > POLICIES[job.new.queue].stalled_limit:
                self._end(job, "failed")
                ended.append((job.pk, "stalled"))
        self._promote([job for job in due if job.state == "delayed"])
        self.settle()
        return sorted(ended)

    def cancel(self, pks: Iterable[int]) -> set[int]:
        found = {pk for pk in pks if self.jobs[pk].state in ("waiting", "blocked", "delayed")}
        for pk in found:
            self._end(self.jobs[pk], "cancelled")
        self.settle()
        return found

    def stop(self, pks: Iterable[int]) -> set[int]:
        """Those that run, and may be stopped, are not to be tried again."""
        found = {pk for pk in pks if self.jobs[pk].fence and self.jobs[pk].new.queue is not QueueName.MESSAGE_SEND}
        for pk in found:
            self.jobs[pk].is_canceled = True
        return found

    def make_due(self, pks: Iterable[int]) -> int:
        delayed = [self.jobs[pk] for pk in set(pks) if self.jobs[pk].state == "delayed"]
        self._promote(delayed)
        self.settle()
        return len(delayed)

    def revivable(self, pks: Iterable[int]) -> set[int]:
        newest: dict[str, int] = {}
        for pk in sorted(pks):
            job = self.jobs[pk]
            if job.state == "failed" and self.holder_of(job.new.job_id) is None:
                newest[job.new.job_id] = pk
        return set(newest.values())

    def revive(self, pks: Sequence[int]) -> None:
        """In the order in which they take their new places."""
        for pk in pks:
            job = self.jobs[pk]
            job.place, job.dedupe, job.finished_at = self._next_place(), Dedupe.LIVE, None
            job.attempt, job.stalled, job.run_at, job.is_canceled = 0, 0, self.now, False
            job.expires_at = job.expires_at and self.now + (job.expires_at - job.created_at)
            job.state = "waiting" if job.key is None else "blocked"
        self.settle()

    def clean(self, queue: QueueName, state: str, *, older_than_s: float, keep: int, batch: int) -> int:
        ended = sorted(
            (j for j in self.jobs.values() if j.new.queue is queue and j.state == state and j.finished_at),
            key=lambda j: (j.finished_at, j.pk),
        )
        limit = self.now - timedelta(seconds=older_than_s)
        old = [job for job in ended[: max(0, len(ended) - keep)] if job.finished_at and job.finished_at < limit][:batch]
        for job in old:
            del self.jobs[job.pk]
        return len(old)

    def settle(self) -> None:
        """In each order key whose place at the head is free, the next goes on."""
        for key in {job.key for job in self.jobs.values() if job.key is not None}:
            chain = self.chain(key)
            if chain and all(job.state == "blocked" for job in chain):
                chain[0].state = "waiting"

    # -- what can be seen

    def chain(self, key: Key) -> list[ModelJob]:
        """The living jobs of an order key that have a place, in order."""
        mine = [j for j in self.jobs.values() if j.key == key and j.place is not None and j.state not in ENDED]
        return sorted(mine, key=lambda j: j.place or 0)

    def of_group(self, key: tuple[QueueName, str | None], *states: str) -> list[ModelJob]:
        return [j for j in self.jobs.values() if (j.new.queue, j.new.group) == key and j.state in states]

    def tokens(self, key: GroupKey) -> int:
        rate = self._rate(key)
        if rate == 0:
            return 1_000_000
        owed_s = max(0.0, (self.groups[key].tat - self.now).total_seconds())
        return math.floor(self._burst(key) - owed_s * rate / 60 + 1e-6)

    def room(self, key: GroupKey) -> int:
        """How many of the group's waiting jobs may start now."""
        if self.groups[key].reasons or key[0] in self.paused:
            return 0
        return max(0, min(self._free(key), self.tokens(key)))

    def line(self, queue: QueueName, group: str | None) -> list[ModelJob]:
        """What waits and may still run, in the order in which it is to be claimed."""
        alive = [
            job
            for job in self.of_group((queue, group), "waiting")
            if job.expires_at is None or job.expires_at > self.now
        ]
        return sorted(alive, key=lambda j: (-j.rank, j.place or 0))

    def claimable(self) -> set[int]:
        found: set[int] = set()
        for queue in set(QueueName) - self.paused:
            found |= {job.pk for job in self.line(queue, None)}
        for key in self.groups:
            if self.room(key):
                found |= {job.pk for job in self.line(*key)}
        return found

    def due_in_s(self) -> float | None:
        """Until the next delay, expiry or token."""
        times = [j.run_at for j in self.jobs.values() if j.state == "delayed"]
        living = (j for j in self.jobs.values() if j.state in ("waiting", "blocked", "delayed"))
        times += [j.expires_at for j in living if j.expires_at]
        for key, group in self.groups.items():
            may_run = key[0] not in self.paused and not group.reasons and self._free(key) > 0
            if may_run and self.of_group(key, "waiting") and self.tokens(key) <= 0:
                times.append(group.tat - (self._burst(key) - 1) * timedelta(minutes=1) / self._rate(key))
        return max(0.0, (min(times) - self.now).total_seconds()) if times else None

    def metrics(self, queue: QueueName) -> dict[str, object]:
        mine = [job for job in self.jobs.values() if job.new.queue is queue]
        counts = {state: sum(job.state == state for job in mine) for state in ("active", "delayed", *ENDED)}
        waiting = [job for job in mine if job.state in ("waiting", "blocked")]
        stopped = [
            key
            for key, group in self.groups.items()
            if key[0] is queue and (group.reasons or (self.of_group(key, "waiting") and self.tokens(key) <= 0))
        ]
        since = self.now - timedelta(seconds=RATE_WINDOW_S)
        recent = [state for q, state, at in self.endings if q is queue and at.replace(microsecond=0) > since]
        ended, failed = len(recent), recent.count("failed")
        return {
            "waiting": len(waiting),
            "active": counts["active"],
            "delayed": counts["delayed"],
            "completed": counts["completed"],
            "failed": counts["failed"],
            "parked": sum(len(self.of_group(key, "waiting", "blocked")) for key in stopped),
            "total": len(waiting) + counts["active"] + counts["delayed"],
            "paused": queue in self.paused,
            "oldest_waiting_seconds": max(((self.now - j.run_at).total_seconds() for j in waiting), default=None),
            "processing_rate": round(ended / RATE_WINDOW_S, 4),
            "failure_rate": round(failed / ended, 4) if ended else 0.0,
        }

    # -- inside

    def _next_place(self) -> int:
        self._places += 1
        return self._places

    def _free(self, key: GroupKey) -> int:
        cap = self.groups[key].cap
        return (POLICIES[key[0]].group_cap if cap is None else cap) - len(self.of_group(key, "active"))

    def _burst(self, key: GroupKey) -> int:
        burst = self.groups[key].burst
        return POLICIES[key[0]].burst if burst is None else burst

    def _rate(self, key: GroupKey) -> int:
        rate = self.groups[key].rate_per_minute
        return POLICIES[key[0]].rate_per_minute if rate is None else rate

    def _take_tokens(self, job: ModelJob, count: int) -> None:
        if job.new.group is None:
            return
        key = (job.new.queue, job.new.group)
        group, rate = self.group(*key), self._rate(key)
        if rate:
            start = max(group.tat, self.now) if count > 0 else group.tat
            group.tat = start + count * timedelta(minutes=1) / rate

    def _end(self, job: ModelJob, state: str) -> None:
        job.state, job.finished_at, job.dedupe = state, self.now, None
        job.fence = job.lease_until = None
        if state != "cancelled":
            self.endings.append((job.new.queue, state, self.now))

    def _first_due(self, queue: QueueName, limit: int) -> list[ModelJob]:
        mine = (j for j in self.jobs.values() if j.new.queue is queue and j.state == "delayed" and j.run_at <= self.now)
        return sorted(mine, key=lambda j: j.run_at)[:limit]

    def _first_expired(self, queue: QueueName, limit: int) -> list[ModelJob]:
        living = (
            j for j in self.jobs.values() if j.new.queue is queue and j.state in ("waiting", "blocked", "delayed")
        )
        old = ((j.expires_at, j) for j in living if j.expires_at and j.expires_at <= self.now)
        return [job for _, job in sorted(old, key=lambda pair: pair[0])[:limit]]

    def _promote(self, jobs: Iterable[ModelJob]) -> None:
        for job in sorted(jobs, key=lambda j: (j.run_at, j.pk)):
            job.state = "waiting"
            if job.place is None:
                job.place = self._next_place()
                job.state = "waiting" if job.key is None else "blocked"
            job.run_at = min(job.run_at, self.now)
