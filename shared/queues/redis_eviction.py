"""Refuses a Redis that is set to evict: it would drop bells, and whatever else is in it, without a word to anybody."""

from typing import Final

from shared.domain.errors import Misconfigured
from shared.settings import Settings

_TIMEOUT_S: Final = 2.0
_KEEPS: Final = "noeviction"


async def refuse_eviction(settings: Settings) -> None:
    """Raises Misconfigured when the configured Redis has a `maxmemory` and a policy other than `noeviction`.

    One that is away, or does not say, is let pass: ZapHub starts without it, and works by sweeps until it is there.
    """
    if settings.transport != "redis" or settings.redis_url is None:
        return
    # Here, as a Lambda on SQS starts without these sixty modules.
    from redis.asyncio import Redis  # noqa: PLC0415 - as above
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - as above
    from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
    from redis.exceptions import RedisError  # noqa: PLC0415 - as above

    client = Redis.from_url(
        settings.redis_url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        memory = await client.info("memory")
    except (RedisError, OSError, TimeoutError):
        return
    finally:
        await client.aclose()
    policy = str(memory.get("maxmemory_policy", _KEEPS))
    if int(memory.get("maxmemory", 0)) and policy != _KEEPS:
        raise Misconfigured(
            f"ZAPHUB_REDIS_URL: this Redis evicts keys when it is full (maxmemory-policy {policy}). Set it to "
            "noeviction: `redis-cli CONFIG SET maxmemory-policy noeviction`, and in its configuration file."
        )
