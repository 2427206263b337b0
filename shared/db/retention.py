"""Retention: how long what is over stays, and its deletion in bounded batches."""

from dataclasses import dataclass
from typing import Final

from shared.db.pool import Connection
from shared.db.sql import load
from shared.settings import Settings

_sql: Final = load("retention")

# Small enough that a batch never holds its locks for long, and large enough that a day's worth takes a minute.
BATCH_ROWS: Final = 1000
_DAY_S: Final = 86_400
_IDEMPOTENCY_KEYS_S: Final = _DAY_S
_NEWEST_COMPLETED_JOBS: Final = 100


@dataclass(frozen=True, slots=True)
class Deletion:
    """One table's share: the query, and its parameters before the limit."""

    query: str
    parameters: tuple[int, ...]


def deletions(settings: Settings) -> dict[str, Deletion]:
    """What to delete under these settings, by subject, in an order that leaves no child behind its parent."""
    messages_s = settings.retention_messages_days * _DAY_S
    return {
        "completed_jobs": Deletion(_sql.completed_jobs, (settings.retention_completed_jobs_s, _NEWEST_COMPLETED_JOBS)),
        "cancelled_jobs": Deletion(_sql.cancelled_jobs, (settings.retention_completed_jobs_s,)),
        "failed_jobs": Deletion(_sql.failed_jobs, (settings.retention_failed_jobs_s,)),
        "idempotency_keys": Deletion(_sql.idempotency_keys, (_IDEMPOTENCY_KEYS_S,)),
        "webhook_deliveries": Deletion(_sql.webhook_deliveries, (settings.retention_deliveries_days * _DAY_S,)),
        "events": Deletion(_sql.events, (settings.retention_events_days * _DAY_S,)),
        "messages": Deletion(_sql.messages, (messages_s,)),
        "wire_ids": Deletion(_sql.wire_ids, (messages_s,)),
    }


async def delete_batch(connection: Connection, deletion: Deletion) -> int:
    """Delete one batch and return its size; less than BATCH_ROWS means that nothing is left."""
    answer = await connection.execute(deletion.query, *deletion.parameters, BATCH_ROWS)
    return int(answer.rpartition(" ")[2])
