"""What `/metrics` says of queues, connections, messages and webhooks: the database's numbers as Prometheus families."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.db import watch
from shared.db.pool import Connection, Record
from shared.db.watch import Totals
from shared.domain.connection_config import ChatKind
from shared.domain.jobs import JobState, QueueName
from shared.domain.session import SessionStatus
from shared.exposition import Family, Histogram
from shared.queues.metrics import queue_metrics
from shared.queues.policies import POLICIES
from shared.queues.watch import BOUNDS_S

_STATES: Final = ("waiting", "active", "delayed", "completed", "failed")
_ENDS: Final = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
_OUTBOUND: Final = (
    *("queued", "sent", "delivered", "read", "played", "failed", "dlq", "expired", "canceled", "unknown"),
)

_GAUGES: Final = (
    ("zaphub_queue_depth", "total", "Jobs that live: waiting, active and delayed."),
    ("zaphub_queue_parked", "parked", "Waiting jobs whose group is paused or limited."),
    ("zaphub_queue_paused", "paused", "1 while the queue is paused."),
    (
        "zaphub_oldest_job_seconds",
        "oldest_waiting_seconds",
        "How long the oldest waiting job has been due; 0 when none waits.",
    ),
    ("zaphub_dlq", "dlq", "Dead letters."),
    (
        "zaphub_worker_utilization",
        "utilization",
        "Active jobs by the concurrency of one worker; above 1 with more workers.",
    ),
    ("zaphub_queue_processing_rate", "processing_rate", "Jobs ended per second over the last minute."),
    (
        "zaphub_queue_failure_rate",
        "failure_rate",
        "Share of the jobs ended over the last minute that failed for good, 0 to 1.",
    ),
)


async def families(connection: Connection) -> list[Family]:
    """Every family that comes from the database. Several statements, each with the numbers of its own moment."""
    numbers = await queue_metrics(connection)
    ready = {row["queue"]: row for row in await watch.ready(connection)}
    by_status = await watch.connections_by_status(connection)
    totals = await watch.totals(connection)
    return [
        *_of_queues(numbers),
        *_of_work(numbers, ready),
        *_of_ended_jobs(totals),
        *_of_events(totals),
        Family(
            "zaphub_connections",
            "gauge",
            "Connections by status.",
            [({"status": status.value}, by_status.get(status.value, 0)) for status in SessionStatus],
        ),
        Family(
            "zaphub_watch_age_seconds",
            "gauge",
            "Seconds since a worker last counted and judged; it grows while none lives.",
            [({}, await watch.age_s(connection))],
        ),
    ]


def _of_queues(numbers: Sequence[Mapping[str, Any]]) -> list[Family]:
    states = Family(
        "zaphub_jobs",
        "gauge",
        "Jobs by state; completed and failed are those that are still kept.",
        [({"queue": one["name"], "state": state}, one[state]) for one in numbers for state in _STATES],
    )
    return [
        states,
        *(
            Family(name, "gauge", text, [({"queue": one["name"]}, float(one[key] or 0)) for one in numbers])
            for name, key, text in _GAUGES
        ),
    ]


def _of_work(numbers: Sequence[Mapping[str, Any]], ready: Mapping[int, Record]) -> list[Family]:
    """What to scale workers by: neither counts jobs that no worker may start."""
    startable, seconds = [], []
    for one in numbers:
        row = ready[POLICIES[QueueName(one["name"])].id]
        startable.append(({"queue": one["name"]}, float(row["jobs"])))
        backlog = 0 if one["paused"] else max(0, one["waiting"] - one["parked"])
        seconds.append(({"queue": one["name"]}, round(backlog * (row["duration_s"] or 0.0), 3)))
    return [
        Family(
            "zaphub_queue_ready", "gauge", "Jobs that free workers could start now, all groups' limits kept.", startable
        ),
        Family(
            "zaphub_queue_work_seconds",
            "gauge",
            "Waiting jobs that are not parked, by the mean duration of the latest: seconds of one worker's slot.",
            seconds,
        ),
    ]


def _of_ended_jobs(totals: Totals) -> list[Family]:
    names = [queue.value for queue in QueueName]
    return [
        Family(
            "zaphub_jobs_processed_total",
            "counter",
            "Jobs that ended, by how.",
            [
                ({"queue": name, "status": end.value}, totals.get(("jobs_processed", (name, end.value)), 0))
                for name in names
                for end in _ENDS
            ],
        ),
        Family(
            "zaphub_job_duration_seconds",
            "histogram",
            "From a job's claim to its end, of jobs that needed one try.",
            [({"queue": name}, _histogram(totals, "job_duration", name)) for name in names],
        ),
        Family(
            "zaphub_job_wait_seconds",
            "histogram",
            "From when a job fell due to its claim, of jobs that needed one try.",
            [({"queue": name}, _histogram(totals, "job_wait", name)) for name in names],
        ),
    ]


def _histogram(totals: Totals, metric: str, queue: str) -> Histogram:
    """Counts are kept by the bound that they were counted under, so that the bounds may change."""
    counts = [0.0] * (len(BOUNDS_S) + 1)
    for (name, labels), value in totals.items():
        if name == metric and labels[0] == queue:
            bound = float(labels[1])
            counts[sum(1 for one in BOUNDS_S if one < bound)] += value
    return Histogram(BOUNDS_S, counts, totals.get((f"{metric}_sum", (queue,)), 0.0))


def _of_events(totals: Totals) -> list[Family]:
    def count(type_: str) -> float:
        return totals.get(("events", (type_,)), 0)

    messages = [({"direction": "outbound", "status": status}, count(f"message.{status}")) for status in _OUTBOUND]
    messages.append(({"direction": "inbound", "status": "delivered"}, count("message.received")))
    return [
        Family("zaphub_messages_total", "counter", "Messages that came into a status.", messages),
        Family(
            "zaphub_messages_ignored_total",
            "counter",
            "Messages that came in and were dropped, as their connection's config says.",
            [({"kind": kind.value}, totals.get(("messages_ignored", (kind.value,)), 0)) for kind in ChatKind],
        ),
        Family(
            "zaphub_webhook_attempts_total",
            "counter",
            "Tries to deliver a webhook.",
            [({"result": result}, count(f"webhook.{result}")) for result in ("delivered", "failed")],
        ),
    ]
