"""What can be measured, by name, and of whom; each round of a scenario measures every contender once, in turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.bench import queue_measures as measure
from local.bench import system_measures
from local.bench.contender import Contender
from local.bench.node_peers import TUNED, BullMQ
from local.bench.procrastinate_peer import Procrastinate
from local.bench.stand import Stand
from local.bench.systems import BareFastApi, SeedNode, System, ZapHubService
from local.bench.zaphub import Floor, ZapHub

Measure = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Setup:
    """What is here: the stand, the folder of Node's peers, Procrastinate's Python. `scale` 1 is a whole run."""

    stand: Stand
    scale: float = 1.0
    node: Path | None = None
    procrastinate: Path | None = None

    def jobs(self, whole: int, contender: Contender | None = None) -> int:
        """How many jobs that is here and, if its scale is less, for that contender."""
        return max(20, int(whole * self.scale * (contender.jobs_scale if contender else 1.0)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """`metrics` are the names it gives values to; `most_rounds` bounds what takes minutes a round."""

    title: str
    metrics: Sequence[str]
    cases: Callable[[Setup], Mapping[str, Measure]]
    most_rounds: int = field(default=100)


def chosen(names: Sequence[str]) -> dict[str, Scenario]:
    """The scenarios that these names mean: a scenario's, the beginning of some (`drain`), or a metric's. None: all.

    Raises ValueError naming what nothing is called.
    """
    picked: set[str] = set()
    for name in names:
        meant = {name} & SCENARIOS.keys() or {
            key for key, one in SCENARIOS.items() if key.startswith(name) or name in one.metrics
        }
        if not meant:
            raise ValueError(name)
        picked |= meant
    return {key: one for key, one in SCENARIOS.items() if not names or key in picked}


def _drain(concurrency: int) -> Callable[[Setup], Mapping[str, Measure]]:
    def cases(setup: Setup) -> Mapping[str, Measure]:
        contenders = [*_all(setup), ZapHub(setup.stand, name="zaphub-log-warning", log_level="warning")]
        return {
            one.name: measure.drain(setup.stand, one, jobs=setup.jobs(20_000, one), concurrency=concurrency)
            for one in contenders
        }

    return cases


def _drain_groups(setup: Setup) -> Mapping[str, Measure]:
    jobs = setup.jobs(20_000)
    ours = [ZapHub(setup.stand), Floor(setup.stand)]
    grouped = {one.name: measure.drain_groups(setup.stand, one, jobs=jobs, concurrency=100) for one in ours}
    # It has no groups: the same jobs without.
    without = {one.name: measure.drain_groups(setup.stand, one, jobs=jobs, concurrency=100) for one in _bullmq(setup)}
    return grouped | without


def _enqueue(setup: Setup) -> Mapping[str, Measure]:
    peers = [one for one in _all(setup) if one.name != "floor"]
    return {one.name: measure.enqueue(setup.stand, one, jobs=setup.jobs(10_000, one)) for one in peers}


def _latency(setup: Setup) -> Mapping[str, Measure]:
    peers = [one for one in _all(setup) if one.name != "floor"]
    return {one.name: measure.idle_latency(setup.stand, one, jobs=setup.jobs(500)) for one in peers}


def _fairness(setup: Setup) -> Mapping[str, Measure]:
    contenders: list[Contender] = [ZapHub(setup.stand), *_bullmq(setup)]
    return {one.name: measure.fairness(setup.stand, one, backlog=setup.jobs(5_000)) for one in contenders}


def _crash(setup: Setup) -> Mapping[str, Measure]:
    contenders: list[Contender] = [ZapHub(setup.stand), *_bullmq(setup)]
    if setup.node is not None:
        contenders.append(BullMQ(setup.stand, setup.node, name="bullmq-tuned", options=dict(TUNED)))
    return {one.name: measure.crash(setup.stand, one, jobs=setup.jobs(2_000)) for one in contenders}


def _end_to_end(setup: Setup) -> Mapping[str, Measure]:
    systems: list[System] = [ZapHubService(setup.stand)]
    if setup.node is not None:
        systems.append(SeedNode(setup.stand, setup.node))
    return {one.name: system_measures.end_to_end(setup.stand, one, messages=setup.jobs(3_000)) for one in systems}


def _end_to_end_wide(setup: Setup) -> Mapping[str, Measure]:
    wide = system_measures.WIDE
    systems: list[System] = [ZapHubService(setup.stand, at_once=wide)]
    if setup.node is not None:
        systems.append(SeedNode(setup.stand, setup.node, at_once=wide))
    return {one.name: system_measures.end_to_end_wide(setup.stand, one, messages=setup.jobs(6_000)) for one in systems}


def _end_to_end_batch(setup: Setup) -> Mapping[str, Measure]:
    systems: list[System] = [ZapHubService(setup.stand)]
    if setup.node is not None:
        systems.append(SeedNode(setup.stand, setup.node))
    return {one.name: system_measures.end_to_end_batch(setup.stand, one, messages=setup.jobs(6_000)) for one in systems}


def _send(setup: Setup) -> Mapping[str, Measure]:
    systems: list[System] = [ZapHubService(setup.stand), BareFastApi(setup.stand)]
    if setup.node is not None:
        systems.append(SeedNode(setup.stand, setup.node))
    return {one.name: system_measures.send_202(setup.stand, one, requests=setup.jobs(3_000)) for one in systems}


def _send_bursts(setup: Setup) -> Mapping[str, Measure]:
    systems: list[System] = [ZapHubService(setup.stand), BareFastApi(setup.stand)]
    if setup.node is not None:
        systems.append(SeedNode(setup.stand, setup.node))
    return {one.name: system_measures.send_bursts(setup.stand, one, requests=setup.jobs(10_000)) for one in systems}


def _bullmq(setup: Setup) -> list[Contender]:
    return [] if setup.node is None else [BullMQ(setup.stand, setup.node)]


def _all(setup: Setup) -> list[Contender]:
    contenders: list[Contender] = [ZapHub(setup.stand), Floor(setup.stand), *_bullmq(setup)]
    if setup.node is not None:
        contenders.append(BullMQ(setup.stand, setup.node, name="bullmq-pg", on_postgres=True))
    if setup.procrastinate is not None:
        contenders.append(Procrastinate(setup.stand, setup.procrastinate))
    return contenders


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "drain_c10": Scenario("drain, 10 at once", ("drain_c10", "cpu_c10"), _drain(10)),
    "drain_c100": Scenario(
        "drain, 100 at once",
        ("drain_c100", "cpu_c100", "cpu_worker_c100", "cpu_servers_c100", "bytes_per_job"),
        _drain(100),
    ),
    "drain_groups_c100": Scenario(
        "drain with every group rule, 100 at once", ("drain_groups_c100", "cpu_groups_c100"), _drain_groups
    ),
    "enqueue": Scenario("enqueue", ("enqueue_50_producers", "enqueue_cpu", "enqueue_bulk"), _enqueue),
    "latency": Scenario("idle latency", ("idle_latency_p50", "idle_latency_p99"), _latency),
    "fairness": Scenario("fairness", ("fairness",), _fairness),
    "crash": Scenario("crash recovery", ("crash_recovery", "crash_lost", "crash_ended_twice"), _crash, most_rounds=1),
    "end_to_end": Scenario("accepted to sent", ("end_to_end", "cpu_end_to_end"), _end_to_end),
    "end_to_end_c50": Scenario(
        "accepted to sent, 50 at once", ("end_to_end_c50", "cpu_end_to_end_c50"), _end_to_end_wide
    ),
    "end_to_end_batch": Scenario("accepted in batches to sent", ("end_to_end_batch",), _end_to_end_batch),
    "send_202": Scenario("requests answered 202", ("send_202",), _send),
    "send_bursts": Scenario("requests answered 202, in bursts", ("send_burst_p50", "send_burst_p99"), _send_bursts),
}
