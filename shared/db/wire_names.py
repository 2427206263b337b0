"""Which messages go by some wire ids: what came over the wire names others by nothing else."""

from collections.abc import Collection
from typing import Final

from shared.db.pool import Connection, Record
from shared.db.sql import load
from shared.domain.ids import ConnectionId

_SQL: Final = load("wire_names")


async def of_wire_ids(connection: Connection, connection_id: ConnectionId, wire_ids: Collection[str]) -> list[Record]:
    """`wa_message_id`, `id`, `message_id`, `from_me` of those that are known."""
    return await connection.fetch(_SQL.of_wire_ids, connection_id, list(wire_ids)) if wire_ids else []
