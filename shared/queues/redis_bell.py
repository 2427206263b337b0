"""The bell over Redis or Valkey, carried by taskiq-redis: one list per queue that holds one bell at most."""

from collections.abc import AsyncGenerator, Collection
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from taskiq.message import BrokerMessage
from taskiq_redis import ListQueueBroker

from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName
from shared.queues.bells import WAIT_S

_PREFIX: Final = "zaphub:bell:"
_CONNECT_TIMEOUT_S: Final = 1.0
# redis-py gives up on a silent socket after 5 s by default and taskiq-redis blocks for ever: its worker dies idle.
_SOCKET_TIMEOUT_S: Final = WAIT_S + 1.0


class _Carrier(ListQueueBroker):
    """taskiq-redis's list broker with bounded lists, several of them, and a read that ends."""

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            queue_name=_PREFIX,
            max_connection_pool_size=8,
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis(connection_pool=self.connection_pool)

    async def kick(self, message: BrokerMessage) -> None:
        """Put the bell in its queue's list; a second one replaces the first."""
        key = _PREFIX + message.labels["queue_name"]
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.lpush(key, message.message)
            pipeline.ltrim(key, 0, 0)
            await pipeline.execute()

    async def hear(self, queues: Collection[QueueName]) -> QueueName | None:
        keys = [_PREFIX + queue for queue in queues]
        heard = await self._redis.brpop(keys, timeout=WAIT_S)
        if heard is None:
            return None
        key = heard[0].decode() if isinstance(heard[0], bytes) else heard[0]
        return QueueName(key.removeprefix(_PREFIX))

    def listen(self) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError("bells are heard per queue, with hear()")


class RedisBell:
    """Rings and hears through Redis; every call stands alone, so a restart or FLUSHALL between two is nothing."""

    def __init__(self, url: str) -> None:
        self._carrier = _Carrier(url)

    async def open(self) -> None:
        return

    async def ring(self, queues: Collection[QueueName]) -> None:
        try:
            for queue in queues:
                bell = BrokerMessage(task_id=queue, task_name="bell", message=b"1", labels={"queue_name": queue})
                await self._carrier.kick(bell)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Redis does not answer; work goes on by sweeps.") from error

    async def ring_later(self, _queue: QueueName, _delay_s: float) -> None:
        return

    async def wait(self, queues: Collection[QueueName]) -> set[QueueName]:
        try:
            heard = await self._carrier.hear(queues)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Redis does not answer; work goes on by sweeps.") from error
        return set() if heard is None else {heard}

    async def close(self) -> None:
        await self._carrier.shutdown()
