"""Messages on a fresh database, a host that the test scripts, and drains that send through it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from functions import message_send
from functions.resources import Resources, begin_tries
from shared.db.hosts import Owner
from shared.db.pool import Record
from shared.domain.ids import DEFAULT_TENANT, MessageId, WireId
from shared.domain.jobs import NewJob, QueueName
from shared.hosts import protocol
from shared.queues.drain import Drain
from shared.queues.runtime import Queues
from shared.queues.together import Together
from shared.settings import Settings

HOST = "host-1"
EPOCH = 7
DEVICE = "5511900000000:1@s.whatsapp.net"

_SESSION = """
INSERT INTO connections (id, tenant_id, label, status, device_jid, phone, host_id, lease_epoch, lease_until)
VALUES (gen_random_uuid(), $1, 'shop', $2, $3, '5511900000000', $4, $5, now() + $6::int * interval '1 hour')
RETURNING id::text
"""
_MESSAGE = """
INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, phone, type, payload, status,
                      send_no, send_started_at, send_host, send_epoch, send_device, on_unknown)
VALUES ($1, $2, gen_random_uuid()::text, 'outbound', 'api', true, '5511999990001@s.whatsapp.net', '5511999990001',
        'text', '{"text": "hi"}', $3, $4, now(), $5, $6, $7, $8)
"""


@dataclass
class ScriptedHost:
    """Answers as `send` and `lookup` say, and keeps what it was asked."""

    sends: list[protocol.Send] = field(default_factory=list)
    lookups: list[protocol.Lookup] = field(default_factory=list)
    on_send: Callable[[protocol.Send], Awaitable[protocol.SendAnswer]] | None = None
    on_lookup: protocol.LookupAnswer = field(default_factory=protocol.NeverLeft)

    async def send(self, _owner: Owner, command: protocol.Send) -> protocol.SendAnswer:
        self.sends.append(command)
        return sent(command) if self.on_send is None else await self.on_send(command)

    async def lookup(self, _owner: Owner, command: protocol.Lookup) -> protocol.LookupAnswer:
        self.lookups.append(command)
        return self.on_lookup


def sent(command: protocol.Send) -> protocol.Sent:
    return protocol.Sent(wire_id=WireId(f"3EB0{command.message_id.hex}"), at=datetime(2026, 1, 2, tzinfo=UTC))


@dataclass
class Office:
    """Sessions, their messages, and what sends them."""

    queues: Queues
    host: ScriptedHost
    use: Resources

    async def session(self, *, status: str = "connected", is_leased: bool = True) -> str:
        """A session that the host holds."""
        made = await self.queues.pool.fetchval(
            _SESSION,
            DEFAULT_TENANT,
            status,
            DEVICE,
            HOST,
            EPOCH,
            1 if is_leased else -1,
        )
        return str(made)

    async def message(self, session: str, *, status: str = "queued", job: bool = True, **fields: Any) -> MessageId:
        """A message, and the job that sends it."""
        message_id = MessageId(uuid4())
        await self.queues.pool.execute(
            _MESSAGE,
            message_id,
            session,
            status,
            fields.get("send_no", 0),
            fields.get("send_host"),
            fields.get("send_epoch"),
            fields.get("send_device"),
            fields.get("on_unknown", "hold"),
        )
        if job:
            data = {"messageDbId": str(message_id), "sessionId": session}
            new = NewJob(
                queue=QueueName.MESSAGE_SEND, job_id=f"msg-{message_id}", name="send", data=data, group=session
            )
            async with self.queues.transaction() as tx:
                await tx.enqueue([new])
        return message_id

    async def drain(self, *, slots: int = 5) -> float | None:
        """Send until nothing is claimable, and return when something falls due."""
        drain = Drain(
            self.queues,
            {QueueName.MESSAGE_SEND: message_send.queue.work},
            self.use,
            slots={QueueName.MESSAGE_SEND: slots},
            worker="test",
        )
        async with asyncio.timeout(20):
            return await drain.until_idle()

    async def row(self, message_id: MessageId) -> Record:
        found = await self.queues.pool.fetchrow("SELECT * FROM messages WHERE id = $1", message_id)
        assert found is not None
        return found

    async def status(self, message_id: MessageId) -> str:
        return str((await self.row(message_id))["status"])

    async def job_states(self) -> dict[str, int]:
        rows = await self.queues.pool.fetch("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    settings = Settings(database_url=database_url, transport="memory", secret_key="s" * 32, db_pool_size=8)
    async with await Queues.open(settings) as queues:
        await queues.pool.execute(
            "INSERT INTO hosts (id, address, capacity) VALUES ($1, 'http://127.0.0.1:9', 9)", HOST
        )
        await queues.pool.execute("UPDATE queues SET rate_per_minute = 0 WHERE name = 'message:send'")
        host = ScriptedHost()
        use = SimpleNamespace(
            settings=settings,
            pool=queues.pool,
            queues=queues,
            now=lambda: datetime.now(UTC),
            hosts=host,
            tries=Together(queues.pool, begin_tries),
        )
        yield Office(queues, host, cast("Resources", use))
