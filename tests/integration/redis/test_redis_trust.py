"""What is in Redis, and which Redis is refused: nothing there is worth stealing, running or losing."""

import ast
import pickletools
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from api.resources import opened
from shared.domain.errors import Misconfigured
from shared.domain.jobs import QueueName
from shared.queues import new_jobs
from shared.queues.redis_eviction import refuse_eviction
from shared.queues.runtime import Queues
from shared.settings import Settings

_ROOT = Path(__file__).parents[3]
_UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, secret_key=SecretStr("a-key-for-this-test")
    )


@pytest.fixture
def server(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


async def test_redis_holds_bells_and_nothing_of_a_job(settings: Settings, server: "redis.Redis[bytes]") -> None:
    async with await Queues.open(settings) as queues:
        await queues.enqueue(new_jobs.cleanup({"canary": "5511987654321"}))
        await queues.ring(set(QueueName))

    held = {key: server.lrange(key, 0, -1) for key in server.keys("*")}

    assert held, "the bell was rung"
    assert {value for values in held.values() for value in values} == {b"1"}
    assert all(len(values) == 1 for values in held.values())


async def test_a_bell_that_somebody_forged_is_only_a_bell(settings: Settings, server: "redis.Redis[bytes]") -> None:
    """Whoever writes Redis could have a pickle run by those who read it with pickle."""
    for queue in QueueName:
        server.lpush(f"zaphub:bell:{queue}", b"cos\nsystem\n(S'exit 1'\ntR.")

    async with await Queues.open(settings) as queues:
        assert await queues.bell.wait({QueueName.MESSAGE_SEND}) == {QueueName.MESSAGE_SEND}


def test_no_module_of_ours_reads_or_writes_pickles() -> None:
    found = {
        f"{path.relative_to(_ROOT)}: {name}"
        for folder in ("api", "functions", "session_host", "shared")
        for path in (_ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported(node)
        if name.partition(".")[0] in _UNSAFE or "Pickle" in name
    }

    assert not found


def _imported(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (one.name for one in names)
        case ast.ImportFrom(module=module, names=names):
            yield module or ""
            yield from (one.name for one in names)


def test_the_brokers_keep_no_results_and_write_json() -> None:
    from taskiq.result_backends.dummy import DummyResultBackend  # noqa: PLC0415 - only here

    from functions.worker import broker  # noqa: PLC0415 - as above

    assert isinstance(broker.result_backend, DummyResultBackend)
    written = broker.serializer.dumpb({"a": 1})
    assert written == b'{"a": 1}'
    with pytest.raises(Exception, match=r"."):
        list(pickletools.genops(written))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random", "volatile-ttl"])
async def test_a_redis_that_evicts_is_refused_by_name(
    settings: Settings, server: "redis.Redis[bytes]", policy: str
) -> None:
    server.config_set("maxmemory", 100_000_000)
    server.config_set("maxmemory-policy", policy)

    with pytest.raises(Misconfigured, match=rf"ZAPHUB_REDIS_URL.*{policy}.*noeviction"):
        await refuse_eviction(settings)
    with pytest.raises(Misconfigured):
        async with opened(settings):
            raise AssertionError("it started")


@pytest.mark.parametrize(("maxmemory", "policy"), [(0, "allkeys-lru"), (0, "noeviction"), (100_000_000, "noeviction")])
async def test_a_redis_that_keeps_what_it_has_is_taken(
    settings: Settings, server: "redis.Redis[bytes]", maxmemory: int, policy: str
) -> None:
    server.config_set("maxmemory", maxmemory)
    server.config_set("maxmemory-policy", policy)

    await refuse_eviction(settings)


async def test_a_redis_that_is_away_keeps_nothing_from_starting(settings: Settings, tmp_path: Path) -> None:
    await refuse_eviction(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/no.sock"}))
    await refuse_eviction(settings.model_copy(update={"transport": "memory", "redis_url": None}))
