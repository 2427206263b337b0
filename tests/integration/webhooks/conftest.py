"""A client that may reach loopback, and a database with a connection, its endpoints and its events."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from functions.resources import open_resources
from functions.webhook_delivery import handle
from shared.db.pool import Connection, Pool, open_pool
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, EventId
from shared.domain.jobs import NewJob, QueueName
from shared.egress.target import Rule, Target
from shared.queues.drain import Drain
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.sealing import Sealer
from shared.settings import load
from shared.webhooks import endpoints
from shared.webhooks.client import SafeClient
from shared.webhooks.delivery import on_ended
from shared.webhooks.endpoints import Registered, Registration
from tests.integration.webhooks.servers import LOOPBACK

SECRET_KEY = "a secret key of some length"
QUEUE = QueueName.WEBHOOK_DELIVERY
WORK = Work(queue=QUEUE, handle=handle, on_ended=on_ended)


@pytest.fixture
async def client() -> AsyncIterator[SafeClient]:
    """A client that may reach loopback, with a short deadline."""
    async with SafeClient(Rule(allow=LOOPBACK), timeout_s=5) as opened:
        yield opened


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, max_size=12)
    yield opened
    await opened.close()


@pytest.fixture
def _settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Failpoints read the settings; these are this test's own."""
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", SECRET_KEY)
    load.cache_clear()
    yield
    load.cache_clear()


@dataclass
class Desk:
    """Short ways to make what a webhook is about. Each call is a transaction of its own."""

    pool: Pool
    sealer: Sealer
    connection_id: ConnectionId

    async def connection(self, *, external_id: str | None = None) -> ConnectionId:
        connection_id = ConnectionId(uuid4())
        await self.pool.execute(
            "INSERT INTO connections (id, tenant_id, label, external_id) VALUES ($1, $2, 'test', $3)",
            connection_id,
            DEFAULT_TENANT,
            external_id,
        )
        return connection_id

    async def endpoint(
        self,
        url: str = "https://example.com/hook",
        *,
        events: Sequence[str] = ("*",),
        connection_ids: Sequence[ConnectionId] | None = None,
        headers: Mapping[str, str] | None = None,
        secret: str | None = None,
        keeps_order: bool = False,
    ) -> Registered:
        wanted = Registration(
            target=Target(url),
            events=events,
            connection_ids=connection_ids,
            headers=headers or {},
            secret=secret,
            keeps_order=keeps_order,
        )
        async with self.pool.acquire() as connection:
            return await endpoints.create(connection, wanted, sealer=self.sealer)

    async def own_endpoint(self, url: str = "https://example.com/own") -> Registered:
        async with self.pool.acquire() as connection:
            return await endpoints.create_for_connection(
                connection, self.connection_id, Target(url), sealer=self.sealer
            )

    async def event(
        self,
        type_: str = "message.sent",
        *,
        of: UUID | None = None,
        payload: Mapping[str, Any] | None = None,
        age_s: float = 0,
        through: Connection | None = None,
    ) -> EventId:
        """Append one event to the log, to be fanned out. Without `of` it is the desk's connection's."""
        event_id: UUID = await (through or self.pool).fetchval(
            "INSERT INTO events (tenant_id, connection_id, type, category, severity, payload, fan_out, created_at) "
            "VALUES ($1, $2, $3, split_part($3, '.', 1), 'info', $4, true, now() - $5 * interval '1 second') "
            "RETURNING id",
            DEFAULT_TENANT,
            of or self.connection_id,
            type_,
            dict(payload or {"text": "olá"}),
            age_s,
        )
        return EventId(event_id)


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    made = Desk(pool=pool, sealer=Sealer(SecretStr(SECRET_KEY)), connection_id=ConnectionId(uuid4()))
    made.connection_id = await made.connection(external_id="crm-7")
    return made


async def drain(queues: Queues) -> None:
    """Work the webhook queue until nothing is claimable."""
    async with open_resources(queues) as resources, asyncio.timeout(20):
        await Drain(queues, {QUEUE: WORK}, resources, slots={QUEUE: 3}, worker="test").until_idle()


@pytest.fixture
async def queues(_settings: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Queues]:
    monkeypatch.setenv("ZAPHUB_TRANSPORT", "memory")
    monkeypatch.setenv("ZAPHUB_WEBHOOK_ALLOW_NETWORKS", "127.0.0.0/8")
    load.cache_clear()
    async with await Queues.open(load()) as opened:
        yield opened


async def enqueue(queues: Queues, *jobs: NewJob) -> None:
    async with queues.transaction() as tx:
        await tx.enqueue(jobs)
