"""What was measured: values by metric and contender, their medians and ratios, and the targets they are held to."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import Any, Final

OURS: Final = "zaphub"


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured of every contender."""

    unit: str
    title: str
    is_less_better: bool = False


_CPU: Final = "CPU s per 1,000 jobs"
METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "drain_c10": Metric("jobs/s", "drain of no-op 1 KB jobs, 10 at once"),
        "cpu_c10": Metric(_CPU, "CPU of worker and servers, 10 at once", is_less_better=True),
        "drain_c100": Metric("jobs/s", "drain of no-op 1 KB jobs, 100 at once"),
        "cpu_c100": Metric(_CPU, "CPU of worker and servers, 100 at once", is_less_better=True),
        "cpu_worker_c100": Metric(_CPU, "CPU of the worker alone, 100 at once", is_less_better=True),
        "cpu_servers_c100": Metric(_CPU, "CPU of the servers alone, 100 at once", is_less_better=True),
        "bytes_per_job": Metric("bytes", "size of a waiting 1 KB job", is_less_better=True),
        "drain_groups_c100": Metric("jobs/s", "drain with every group rule on over 200 groups, 100 at once"),
        "cpu_groups_c100": Metric(_CPU, "CPU with every group rule on, 100 at once", is_less_better=True),
        "enqueue_50_producers": Metric("jobs/s", "enqueue from 50 producers, each answered after its commit"),
        "enqueue_cpu": Metric(_CPU, "CPU of producer and servers, 50 producers", is_less_better=True),
        "enqueue_bulk": Metric("jobs/s", "enqueue in batches of 500"),
        "idle_latency_p50": Metric("ms", "enqueue call to handler start on an idle queue, median", is_less_better=True),
        "idle_latency_p99": Metric("ms", "enqueue call to handler start on an idle queue, p99", is_less_better=True),
        "fairness": Metric("% of the run", "end of B's 10 jobs behind A's 5,000", is_less_better=True),
        "crash_recovery": Metric("s", "kill -9 to the last of 2,000 jobs", is_less_better=True),
        "crash_lost": Metric("jobs", "lost by the kill", is_less_better=True),
        "crash_ended_twice": Metric("jobs", "ended twice after the kill", is_less_better=True),
        "end_to_end": Metric("messages/s", "accepted to sent, through API, worker and host stub"),
        "end_to_end_batch": Metric("messages/s", "accepted in batches of 30 to sent"),
        "cpu_end_to_end": Metric("CPU s per 1,000 messages", "CPU of API, worker and servers", is_less_better=True),
        "end_to_end_c50": Metric("messages/s", "accepted to sent, where a worker sends 50 at once in the place of 5"),
        "cpu_end_to_end_c50": Metric("CPU s per 1,000 messages", "CPU of them, 50 at once", is_less_better=True),
        "send_202": Metric("requests/s", "POST …/send answered 202, 50 clients"),
        "send_burst_p50": Metric("ms", "POST …/send answered 202, 50 at once in bursts, median", is_less_better=True),
        "send_burst_p99": Metric("ms", "POST …/send answered 202, 50 at once in bursts, p99", is_less_better=True),
    }
)


@dataclass(frozen=True, slots=True)
class Figure:
    """The values of one metric for one contender, a value a round."""

    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(slots=True)
class Figures:
    """All values of a run, in the order in which metrics and contenders first came."""

    _values: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, contender: str, found: Mapping[str, float]) -> None:
        """Note one round's values; NaN is none."""
        for name, value in found.items():
            if not math.isnan(value):
                self._values[name][contender].append(value)

    def metrics(self) -> list[str]:
        """The metrics that have values."""
        return list(self._values)

    def contenders(self, metric: str) -> list[str]:
        """Who has values for it, ours first."""
        return sorted(self._values.get(metric, {}), key=lambda name: name != OURS)

    def get(self, metric: str, contender: str) -> Figure | None:
        """None when this was not measured."""
        values = self._values.get(metric, {}).get(contender)
        return Figure(tuple(values)) if values else None

    def ratio(self, metric: str, peer: str) -> float | None:
        """How many times better than the peer ZapHub's median is: above 1 is better. None when one is missing or 0."""
        ours, theirs = self.get(metric, OURS), self.get(metric, peer)
        if ours is None or theirs is None or not ours.middle or not theirs.middle:
            return None
        better, worse = ours.middle, theirs.middle
        return worse / better if METRICS[metric].is_less_better else better / worse

    def rows(self) -> list[dict[str, Any]]:
        """A row per metric and peer, as `--json` writes them; `peer` is None where no peer was measured."""
        return [
            self._row(metric, peer)
            for metric in self.metrics()
            if self.get(metric, OURS) is not None
            for peer in self._peers(metric) or (None,)
        ]

    def _peers(self, metric: str) -> tuple[str, ...]:
        return tuple(name for name in self.contenders(metric) if name != OURS)

    def _row(self, metric: str, peer: str | None) -> dict[str, Any]:
        ours, theirs = self.get(metric, OURS), None if peer is None else self.get(metric, peer)
        assert ours is not None
        return {
            "name": metric,
            "peer": peer,
            "unit": METRICS[metric].unit,
            "zaphub": ours.middle,
            "zaphub_range": [ours.least, ours.most],
            "peer_value": None if theirs is None else theirs.middle,
            "peer_range": None if theirs is None else [theirs.least, theirs.most],
            "ratio": None if peer is None else self.ratio(metric, peer),
            "rounds": len(ours.values),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What we promised: a ratio to a peer of at least `bound`, or without a peer a value of at most `bound`."""

    text: str
    metric: str
    bound: float
    peer: str | None = None

    def measured(self, figures: Figures) -> float | None:
        """The ratio or the value; None when it was not measured."""
        if self.peer is not None:
            return figures.ratio(self.metric, self.peer)
        ours = figures.get(self.metric, OURS)
        return None if ours is None else ours.middle

    def is_met(self, measured: float) -> bool:
        return measured <= self.bound if self.peer is None else measured >= self.bound


class LatencyTarget(Target):
    """Ours at its 99th percentile, against the peer's median and `bound` milliseconds more."""

    def measured(self, figures: Figures) -> float | None:
        ours, theirs = figures.get("idle_latency_p99", OURS), figures.get("idle_latency_p50", self.peer or "")
        return None if ours is None or theirs is None else ours.middle - theirs.middle

    def is_met(self, measured: float) -> bool:
        return measured <= self.bound


TARGETS: Final[Sequence[Target]] = (
    Target("drain, 100 at once: 2.5 times BullMQ", "drain_c100", 2.5, "bullmq"),
    Target("drain, 10 at once: 2 times BullMQ", "drain_c10", 2.0, "bullmq"),
    Target("drain with every group rule: 1.5 times BullMQ without", "drain_groups_c100", 1.5, "bullmq"),
    Target("drain, 100 at once: 10 times BullMQ on Postgres", "drain_c100", 10.0, "bullmq-pg"),
    Target("drain, 100 at once: 10 times Procrastinate", "drain_c100", 10.0, "procrastinate"),
    Target("CPU per job, 100 at once: half of BullMQ's", "cpu_c100", 2.0, "bullmq"),
    Target("CPU per job, 10 at once: half of BullMQ's", "cpu_c10", 2.0, "bullmq"),
    Target("enqueue, 50 producers: BullMQ's rate", "enqueue_50_producers", 1.0, "bullmq"),
    Target("drain, 100 at once: half the floor's rate", "drain_c100", 0.5, "floor"),
    Target("drain, 10 at once: half the floor's rate", "drain_c10", 0.5, "floor"),
    Target("drain with every group rule: half the floor's rate", "drain_groups_c100", 0.5, "floor"),
    Target("accepted to sent: 5 times the seed's design", "end_to_end", 5.0, "seed-node"),
    LatencyTarget("idle latency p99: 10 ms above BullMQ's median", "idle_latency_p99", 10.0, "bullmq"),
    Target("B behind A's backlog: 1 % of the run", "fairness", 1.0),
    Target("last job after kill -9: 6 s", "crash_recovery", 6.0),
    Target("lost by the kill: 0", "crash_lost", 0.0),
    Target("ended twice after the kill: 0", "crash_ended_twice", 0.0),
)
