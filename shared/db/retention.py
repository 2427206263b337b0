"""Retention: how long what is over stays, jobs aside, and its deletion in bounded batches."""

from dataclasses import dataclass
from typing import Final

from shared.db.known_numbers import PERSON_S
from shared.db.pool import Connection
from shared.db.sql import load
from shared.settings import Settings

_sql: Final = load("retention")

# Small enough that a batch never holds its locks for long, and large enough that a day's worth takes a minute.
BATCH_ROWS: Final = 1000
_DAY_S: Final = 86_400
_IDEMPOTENCY_KEYS_S: Final = _DAY_S


@dataclass(frozen=True, slots=True)
class Deletion:
    """One table's share: rows older than `age_s`, as far as the query lets them go."""

    query: str
    age_s: int


def deletions(settings: Settings) -> dict[str, Deletion]:
    """What to delete under these settings, by subject, in an order that leaves no child behind its parent."""
    messages_s = settings.retention_messages_days * _DAY_S
    return {
        "idempotency_keys": Deletion(_sql.idempotency_keys, _IDEMPOTENCY_KEYS_S),
        "webhook_deliveries": Deletion(_sql.webhook_deliveries, settings.retention_deliveries_days * _DAY_S),
        "events": Deletion(_sql.events, settings.retention_events_days * _DAY_S),
        "messages": Deletion(_sql.messages, messages_s),
        "wire_ids": Deletion(_sql.wire_ids, messages_s),
        "known_numbers": Deletion(_sql.known_numbers, PERSON_S),
        "chat_holds": Deletion(_sql.chat_holds, _DAY_S),
    }


async def delete_batch(connection: Connection, deletion: Deletion) -> int:
    """Delete one batch and return its size; less than BATCH_ROWS means that nothing is left."""
    answer = await connection.execute(deletion.query, deletion.age_s, BATCH_ROWS)
    return int(answer.rpartition(" ")[2])
