"""The seed's two calls on outbound messages, on the process's own Queues (see seed.py)."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.db import connections
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.message import MessageType
from shared.queues import sends
from shared.queues.runtime import current
from shared.queues.sends import SendRequest, SendResult


async def enqueue_send_message(
    session_id: str,
    jid: str,
    type: str,  # noqa: A002 - the seed's name
    payload: Mapping[str, Any],
    message_id: str | None = None,
) -> SendResult:
    """Make the message and its job in one transaction; the same `message_id` again gives the first message.

    Raises InvalidInput for a wrong JID, NotFound for an unknown session, and Conflict when `message_id` was used with
    another body.
    """
    queues = current()
    request = SendRequest(to=jid, type=MessageType(type), payload=payload, message_id=message_id)
    session = ConnectionId(UUID(session_id))
    async with queues.transaction() as tx:
        if await connections.lock(tx.connection, session, tenant_id=DEFAULT_TENANT, allowed=None) is None:
            raise NotFound("There is no such session.")
        [result] = await sends.enqueue_sends(tx, session, [request], default_ttl_s=queues.settings.send_ttl_seconds)
        if result.is_conflict:
            raise Conflict("This message_id was used with another body.", code="IDEMPOTENCY_CONFLICT")
    return result


async def retry_failed_message(message_db_id: str) -> SendResult:
    """Send a message that is failed, dlq or unknown once more, before new ones (priority 6).

    Raises NotFound, and Conflict from any other status.
    """
    queues = current()
    async with queues.transaction() as tx:
        return await sends.retry(
            tx,
            UUID(message_db_id),
            tenant_id=DEFAULT_TENANT,
            allowed=None,
            default_ttl_s=queues.settings.send_ttl_seconds,
        )
