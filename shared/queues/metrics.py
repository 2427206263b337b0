"""What the queues look like now: one dict per queue, as the API and the dashboard show it."""

from collections.abc import Mapping
from typing import Any, Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.domain.jobs import QueueName
from shared.queues.policies import POLICIES, QUEUE_OF_ID, QueuePolicy

_sql: Final = load("ledger")

RATE_WINDOW_S: Final = 60  # processing_rate and failure_rate look back this far


async def queue_metrics(
    conn: Connection, *, policies: Mapping[QueueName, QueuePolicy] = POLICIES, workers: int = 1
) -> list[dict[str, Any]]:
    """Every queue's numbers, the most urgent queue first.

    `waiting` holds blocked jobs, and `parked` those of them whose group is paused or limited; `total` is what lives;
    `oldest_waiting_seconds` is None when nothing waits; `concurrency` is that of `workers` workers, and `utilization`
    the share of it that is active (above 1 when there are more workers); `processing_rate` is jobs ended per second
    and `failure_rate` the share of those that failed, over the last minute, in whole seconds and also when they were
    deleted or retried since; `dlq` is how many dead letters there are. The ledger keeps these numbers, so that asking
    costs a few milliseconds however many jobs there are.
    """
    rows = await conn.fetch(_sql.metrics, float(RATE_WINDOW_S))
    metrics = []
    for row in rows:
        queue = QUEUE_OF_ID[row["queue"]]
        concurrency = policies[queue].concurrency * workers
        ended = row["recently_completed"] + row["recently_failed"]
        metrics.append(
            {
                "name": queue.value,
                "waiting": row["waiting"],
                "active": row["active"],
                "delayed": row["delayed"],
                "completed": row["completed"],
                "failed": row["failed"],
                "parked": row["parked"],
                "total": row["waiting"] + row["active"] + row["delayed"],
                "paused": row["paused"],
                "oldest_waiting_seconds": row["oldest_waiting_seconds"],
                "concurrency": concurrency,
                "utilization": round(row["active"] / concurrency, 4),
                "processing_rate": round(ended / RATE_WINDOW_S, 4),
                "failure_rate": round(row["recently_failed"] / ended, 4) if ended else 0.0,
                "dlq": row["failed"],
            }
        )
    return metrics


async def metrics_of(conn: Connection, queue: QueueName) -> dict[str, Any]:
    """One queue's numbers; see `queue_metrics`."""
    return next(one for one in await queue_metrics(conn) if one["name"] == queue.value)
