"""What becomes of a call to a session: an event, and where the config says so, a rejection and a text to the caller."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from session_host.whatsapp.port import CallOffered, WhatsAppClient
from shared.db import connection_configs, connections
from shared.db.pool import AWAY, COLLISION
from shared.domain.connection_config import ConnectionConfig
from shared.domain.errors import Conflict, NotFound, Unavailable
from shared.domain.ids import ConnectionId, TenantId
from shared.domain.jid import parse_jid
from shared.domain.message import MessageType
from shared.hosts.protocol import Shown
from shared.queues.runtime import Queues
from shared.queues.send_requests import Ask, SendRequest

# What a call leaves behind waits for Postgres, and is tried again this often.
_AGAIN_S: Final = 0.5
# A call is offered more than once: when it is repeated, and with a notice of its own in groups.
_REMEMBERED: Final = 1000
# A phone rings for less; WhatsApp tells of calls that were missed too, once the session is back.
_RINGS_S: Final = 60.0

log = structlog.get_logger(__name__)


class Calls:
    """One process's. A call is answered once, however often it is offered."""

    def __init__(self, queues: Queues, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._queues = queues
        self._now = now
        self._seen: OrderedDict[tuple[ConnectionId, str], None] = OrderedDict()

    async def answer(
        self, connection_id: ConnectionId, client: WhatsAppClient, call: CallOffered, config: ConnectionConfig
    ) -> None:
        """Decline the call when the config says so, tell it as an event, and have the text sent, once per call id.

        One that rings no longer is told, and nothing else. Postgres is not asked for the config: a call cannot wait.
        """
        if self._is_repeated(connection_id, call.call_id):
            return
        is_wanted = config.reject_calls.enabled and self._now().timestamp() - call.timestamp_ms / 1000 < _RINGS_S
        is_rejected = is_wanted and isinstance(await client.reject_call(call.wire_caller, call.call_id), Shown)
        log.info("call_offered", session_id=str(connection_id), is_rejected=is_rejected)
        text = config.reject_calls.text if is_rejected and not call.is_group else None
        events = ["call.received", *(["call.rejected"] if is_rejected else [])]
        await _until_taken(lambda: self._write_down(connection_id, call, events))
        if text is not None:
            await _until_taken(lambda: self._send(connection_id, call, text))

    def _is_repeated(self, connection_id: ConnectionId, call_id: str) -> bool:
        key = (connection_id, call_id)
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    async def _write_down(self, connection_id: ConnectionId, call: CallOffered, events: list[str]) -> None:
        async with self._queues.transaction() as tx:
            for type_ in events:
                if await connections.record_event(tx.connection, connection_id, type_, _payload(call)):
                    tx.fan_out(connection_id)

    async def _send(self, connection_id: ConnectionId, call: CallOffered, text: str) -> None:
        """Make the text a message of the ledger, once for this call; one that may not be is given up."""
        request = SendRequest(
            to=call.caller,
            type=MessageType.TEXT,
            payload={"text": text},
            message_id=f"call-{call.call_id}",
            metadata={"call_id": call.call_id},
        )
        try:
            tenant_id = await self._tenant(connection_id)
            if tenant_id is not None:
                await self._queues.accept(Ask(connection_id=connection_id, tenant_id=tenant_id, requests=[request]))
        except (Conflict, NotFound) as error:
            log.warning("call_text_refused", session_id=str(connection_id), code=error.public_code)

    async def _tenant(self, connection_id: ConnectionId) -> TenantId | None:
        found = (await connection_configs.read(self._queues.pool, [connection_id])).get(connection_id)
        return None if found is None else found.tenant_id


async def _until_taken(write: Callable[[], Awaitable[None]]) -> None:
    """Write what a call leaves behind, through an outage of Postgres."""
    while True:
        try:
            return await write()
        except (*AWAY, *COLLISION, Unavailable, TimeoutError) as error:
            log.warning("call_waits", error=type(error).__name__)
        await asyncio.sleep(_AGAIN_S)


def _payload(call: CallOffered) -> dict[str, Any]:
    at = datetime.fromtimestamp(call.timestamp_ms / 1000, UTC)
    return {
        "call_id": call.call_id,
        "from": call.caller,
        "phone": parse_jid(call.caller).phone,
        "is_group": call.is_group,
        "at": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
