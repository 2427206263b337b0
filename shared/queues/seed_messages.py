"""The seed's two calls on outbound messages, on the process's own Queues (see seed.py)."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.db.idempotency import Before
from shared.domain.errors import Conflict
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.jid import parse_jid
from shared.domain.message import MessageType
from shared.queues import sends
from shared.queues.runtime import current
from shared.queues.send_requests import Ask, SendRequest, SendResult
from shared.queues.sends import Retried


async def enqueue_send_message(
    session_id: str,
    jid: str,
    type: str,  # noqa: A002 - the seed's name
    payload: Mapping[str, Any],
    message_id: str | None = None,
) -> SendResult:
    """Make the message and its job in one transaction; the same `message_id` again gives the first message.

    Raises InvalidInput for a wrong JID, NotFound for an unknown session, and Conflict when `message_id` was used with
    another body or the session refuses sends.
    """
    to = str(parse_jid(jid))
    request = SendRequest(to=to, type=MessageType(type), payload=payload, message_id=message_id)
    ask = Ask(connection_id=UUID(session_id), tenant_id=DEFAULT_TENANT, requests=[request])
    results = await current().accept(ask)
    assert not isinstance(results, Before), "the ask has no idempotency key"
    if isinstance(results[0], Conflict):
        raise results[0]
    return results[0]


async def retry_failed_message(message_db_id: str) -> Retried:
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
