"""Postgres stops answering while messages come in: sockets close until it is back, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import parent_of, stopped
from tests.wire.session_host.stage import RECEIVE, HostProcess, Stage, until

pytestmark = [
    pytest.mark.wire,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not Path("/proc").exists(), reason="Linux"),
]


async def test_what_comes_in_while_postgres_is_away_is_there_when_it_is_back(
    stage: Stage, start_host: Callable[..., HostProcess]
) -> None:
    phone, host = "5511988880003", start_host()
    child = await host.until_ready()
    session = await stage.connection()
    await stage.pair(session, phone)
    backend_pid = await stage.pool.fetchval("SELECT pg_backend_pid()")

    async def is_closed() -> bool:
        return not any(one["connected"] for one in stage.fake.sessions() if one["phone"] == phone)

    with stopped(parent_of(backend_pid)):
        early = [stage.inbound(phone, f"early {n}") for n in range(5)]
        await until(is_closed)
        late = [stage.inbound(phone, f"late {n}") for n in range(5)]
    await stage.until_status(session, "connected")

    async def all_there() -> bool:
        jobs = await stage.until_jobs(RECEIVE)
        return sorted(job["waMessageId"] for job in jobs) == sorted(early + late)

    await until(all_there)
    assert host.child_pid() == child
