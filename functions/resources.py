"""What handlers work with, built once when a worker or a Lambda container starts."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from functions.turnstile import Turnstile
from functions.typist import Typist
from shared.db import tries
from shared.db.pool import Connection, Pool
from shared.db.tries import Sendable, Start
from shared.domain.jobs import QueueName
from shared.hosts.client import HostClient, open_host_client
from shared.media import Media, open_media
from shared.queues.policies import POLICIES
from shared.queues.runtime import Queues, retry_collisions
from shared.queues.together import Together
from shared.settings import Settings
from shared.webhooks.delivery import Courier, open_courier


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Handed to every handler; shared by all that run at once, so nothing in it belongs to one job.

    `tries` begins a try of a message; those that begin at the same moment share a commit. `downloads` counts the
    files of messages that are being fetched. `typist` shows `typing…` before the messages of paced connections.
    """

    settings: Settings
    pool: Pool
    queues: Queues
    now: Callable[[], datetime]
    courier: Courier
    hosts: HostClient
    media: Media
    downloads: Turnstile
    typist: Typist
    tries: Together[Start, Sendable | None]


@asynccontextmanager
async def open_resources(queues: Queues) -> AsyncIterator[Resources]:
    """Open what handlers need beyond the database, and close it at the end."""
    delay_s = POLICIES[QueueName.WEBHOOK_DELIVERY].delay_s
    async with (
        open_courier(queues.settings, queues.pool, delay_s=delay_s) as courier,
        open_host_client(queues.settings, queues.pool) as hosts,
        open_media(queues.settings, queues.pool) as media,
    ):
        yield Resources(
            settings=queues.settings,
            pool=queues.pool,
            queues=queues,
            now=lambda: datetime.now(UTC),
            courier=courier,
            hosts=hosts,
            media=media,
            downloads=Turnstile(_half_of_slots(queues.settings, QueueName.MESSAGE_RECEIVE)),
            typist=Typist(hosts, at_once=_half_of_slots(queues.settings, QueueName.MESSAGE_SEND)),
            tries=Together(queues.pool, begin_tries),
        )


def _half_of_slots(settings: Settings, queue: QueueName) -> int:
    """For what takes long: the queue's other jobs always find a slot."""
    return max(settings.concurrency.get(queue, POLICIES[queue].concurrency) // 2, 1)


async def begin_tries(connection: Connection, starts: Sequence[Start]) -> list[Sendable | None]:
    return await retry_collisions(lambda: tries.begin(connection, starts))
