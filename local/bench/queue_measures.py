"""The measurements of one queue: each returns a function that runs it once and gives the values by metric."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from local.bench.contender import Contender, Work, produce, worker
from local.bench.producing import Order, Shape
from local.bench.stand import Stand
from local.bench.worklog import Stalled, WorkLog

Measure = Callable[[], Mapping[str, float]]

_KEPT_BUSY_MS: Final = 20
_FAIR_WORK_MS: Final = 5
_KILL_AFTER: Final = 0.35
_B: Final = 10
_B_FIRST_ID: Final = 10_000_000
# BullMQ needs up to a minute to notice; what has not run by then never does.
_LOST_S: Final = 150.0
# After the last job a worker still has this long to end one twice.
_LOOK_FOR_TWICE_S: Final = 3.0


def drain(stand: Stand, one: Contender, *, jobs: int, concurrency: int) -> Measure:
    """Fill the queue with no-op jobs of 1 KB, start a worker, and time it from the first job to the last."""

    def run() -> Mapping[str, float]:
        rate, worker_s, servers_s, waiting_bytes = _drain_once(stand, one, jobs, concurrency, "flat")
        found = {f"drain_c{concurrency}": rate, f"cpu_c{concurrency}": worker_s + servers_s}
        if concurrency == 100:  # noqa: PLR2004 - told once is enough
            found |= {"cpu_worker_c100": worker_s, "cpu_servers_c100": servers_s, "bytes_per_job": waiting_bytes}
        return found

    return run


def drain_groups(stand: Stand, one: Contender, *, jobs: int, concurrency: int) -> Measure:
    """As `drain`, with jobs of 200 groups and 1,000 chats where the contender knows such things."""

    def run() -> Mapping[str, float]:
        rate, worker_s, servers_s, _ = _drain_once(stand, one, jobs, concurrency, "chats")
        return {"drain_groups_c100": rate, "cpu_groups_c100": worker_s + servers_s}

    return run


def _drain_once(
    stand: Stand, one: Contender, jobs: int, concurrency: int, shape: Shape
) -> tuple[float, float, float, float]:
    """Jobs a second; CPU seconds of the worker and of the servers per 1,000 jobs; bytes of a waiting job."""
    one.reset()
    empty = one.stored_bytes()
    produce(stand, one, Order(jobs=jobs, shape=shape))
    waiting_bytes = (one.stored_bytes() - empty) / jobs
    log = WorkLog(stand.new_folder())
    servers_s = stand.cpu_s()
    with worker(stand, one, Work(concurrency=concurrency, records=log.folder)) as program:
        log.wait_for(jobs, program)
        servers_s = stand.cpu_s() - servers_s
    thousands = jobs / 1000
    return jobs / log.seconds(), log.cpu_s() / thousands, servers_s / thousands, waiting_bytes


def enqueue(stand: Stand, one: Contender, *, jobs: int) -> Measure:
    """No worker runs: 50 producers that each wait for their answer, then one that hands over batches of 500."""

    def run() -> Mapping[str, float]:
        one.reset()
        servers_s = stand.cpu_s()
        each = produce(stand, one, Order(jobs=jobs, mode="each"))
        cpu_s = each.cpu_s + stand.cpu_s() - servers_s
        one.reset()
        bulk = produce(stand, one, Order(jobs=jobs))
        return {
            "enqueue_50_producers": each.jobs / each.seconds,
            "enqueue_cpu": cpu_s * 1000 / each.jobs,
            "enqueue_bulk": bulk.jobs / bulk.seconds,
        }

    return run


def idle_latency(stand: Stand, one: Contender, *, jobs: int) -> Measure:
    """One job every 20 ms to a worker that has nothing else to do, from the producer's call to the handler's start.

    The commit lies between the two, so this is an upper bound of commit to start, for every contender alike.
    """

    def run() -> Mapping[str, float]:
        one.reset()
        log = WorkLog(stand.new_folder())
        with worker(stand, one, Work(concurrency=10, records=log.folder)) as program:
            # The worker is up, its plans are made and its connections are open before anything counts.
            produce(stand, one, Order(jobs=20, mode="paced", first_id=_B_FIRST_ID))
            log.wait_for(20, program)
            produce(stand, one, Order(jobs=jobs, mode="paced"))
            log.wait_for(jobs + 20, program)
        waits_ms = sorted((job.began - job.called) / 1e6 for job in log.runs if job.id < _B_FIRST_ID)
        return {"idle_latency_p50": percentile(waits_ms, 0.5), "idle_latency_p99": percentile(waits_ms, 0.99)}

    return run


def fairness(stand: Stand, one: Contender, *, backlog: int) -> Measure:
    """Tenant A's backlog of 5 ms jobs, then 10 of tenant B, 10 at once: B's end in per cent of the run."""

    def run() -> Mapping[str, float]:
        one.reset()
        produce(stand, one, Order(jobs=backlog, work_ms=_FAIR_WORK_MS, shape="tenants"))
        late = Order(jobs=_B, first_id=_B_FIRST_ID, work_ms=_FAIR_WORK_MS, tenant="B", shape="tenants")
        produce(stand, one, late)
        log = WorkLog(stand.new_folder())
        with worker(stand, one, Work(concurrency=10, records=log.folder)) as program:
            log.wait_for(backlog + _B, program)
        began = min(job.began for job in log.runs)
        last_of_b = max(job.ended for job in log.runs if job.tenant == "B")
        return {"fairness": (last_of_b - began) / 1e9 / log.seconds() * 100}

    return run


def crash(stand: Stand, one: Contender, *, jobs: int) -> Measure:
    """Jobs of 20 ms, 10 at once; after a third of them `kill -9` to the whole worker, and another starts at once."""

    def run() -> Mapping[str, float]:
        one.reset()
        produce(stand, one, Order(jobs=jobs, work_ms=_KEPT_BUSY_MS))
        log = WorkLog(stand.new_folder())
        work = Work(concurrency=10, records=log.folder, is_immediate=True)
        with worker(stand, one, work) as first:
            log.wait_for(int(jobs * _KILL_AFTER), first)
            killed_at = time.time_ns()
            first.kill()
        with worker(stand, one, work) as second:
            with suppress(Stalled):  # what is missing then is lost
                log.wait_for(jobs, second, stall_s=_LOST_S)
            time.sleep(_LOOK_FOR_TWICE_S)
        log.poll()
        ends: dict[int, int] = {}
        for job in log.runs:
            ends[job.id] = min(job.ended, ends.get(job.id, job.ended))
        return {
            "crash_recovery": (max(ends.values()) - killed_at) / 1e9,
            "crash_lost": jobs - len(ends),
            "crash_ended_twice": log.ended_twice(),
        }

    return run


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share is not above; `values` are in order."""
    return values[min(len(values) - 1, int(share * len(values)))]
