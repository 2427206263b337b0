"""Which connection a client of another gateway means: they know it by a name, or by an id of that gateway's."""

from typing import Any
from uuid import UUID

from api.auth import Principal
from api.resources import Resources
from shared.db import connections


async def find(parts: Resources, caller: Principal, name: str) -> dict[str, Any] | None:
    """The connection whose `external_id` this is, else the one whose `id` it is; None when the caller has neither."""
    if "\x00" in name:
        # Postgres takes no NUL, so nothing has this name.
        return None
    async with parts.queues.pool.acquire() as connection:
        found = await connections.list_objects(
            connection,
            tenant_id=caller.tenant_id,
            allowed=caller.connection_ids,
            status=None,
            external_id=name,
            after=None,
            limit=1,
        )
        if found:
            shown: dict[str, Any] = found[0]["object"]
            return shown
        try:
            connection_id = UUID(name)
        except ValueError:
            return None
        return await connections.get_object(
            connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )


def name_of(shown: dict[str, Any]) -> str:
    """What its clients call a connection: its external id, or its id when it has none."""
    return str(shown["external_id"] or shown["id"])
