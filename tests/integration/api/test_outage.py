"""Postgres away: a 503 that says so, nothing accepted, and work again when it is back."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from api import resources
from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.api.conftest import running

_HOST = re.compile(r"host=([^&]+)")


class Relay:
    """A socket before Postgres's own, so that it can be taken away without stopping the server of all tests."""

    def __init__(self, real: Path, shown: Path) -> None:
        self._real = real
        self._shown = shown
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    def freeze(self) -> None:
        """Carry nothing more, and close nothing: a server that hangs."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    async def up(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._shown)

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        self._shown.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, to_server = await asyncio.open_unix_connection(self._real)
        self._open |= {writer, to_server}
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, to_server))
                both.create_task(self._carry(back, writer))
        self._open -= {writer, to_server}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def relayed(database_url: str) -> AsyncIterator[tuple[str, Relay]]:
    found = _HOST.search(database_url)
    assert found is not None, database_url
    real = Path(found[1]) / ".s.PGSQL.5432"
    with tempfile.TemporaryDirectory(prefix="zhr-") as folder:
        relay = Relay(real, Path(folder) / real.name)
        await relay.up()
        try:
            yield database_url.replace(found[1], folder), relay
        finally:
            await relay.down()


async def test_without_postgres_nothing_is_accepted(
    settings: Settings, database_url: str, database: Connection
) -> None:
    async with (
        relayed(database_url) as (url, relay),
        running(settings.model_copy(update={"database_url": url})) as api,
    ):
        await relay.down()
        answers = [await api.post("/connections", json={"label": "a"}) for _ in range(3)]
        ready = await api.get("/readyz")
        alive = await api.get("/healthz")
        await relay.up()
        back = await api.get("/connections")

    assert {(answer.status_code, answer.json()["code"], answer.json()["retryable"]) for answer in answers} == {
        (503, "UNAVAILABLE", True)
    }
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert (back.status_code, back.json()["data"]) == (200, [])
    assert await database.fetchval("SELECT count(*) FROM connections") == 0


async def test_a_postgres_that_hangs_keeps_nobody_waiting_who_asks_whether_it_is_there(
    settings: Settings, database_url: str
) -> None:
    async with (
        relayed(database_url) as (url, relay),
        running(settings.model_copy(update={"database_url": url})) as api,
    ):
        relay.freeze()
        ready, metrics = await asyncio.gather(api.get("/readyz"), api.get("/metrics"))
        relay.thaw()
        back = await api.get("/readyz")

    assert (ready.status_code, ready.json()["code"]) == (503, "UNAVAILABLE")
    assert metrics.status_code == 200
    assert "zaphub_database_up 0" in metrics.text.splitlines()
    assert back.json()["checks"]["postgres"] == "ok"


async def _until_done(calls: list[asyncio.Task[Any]], count: int) -> None:
    for _ in range(count):
        await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
        if sum(call.done() for call in calls) >= count:
            return


async def test_a_postgres_that_hangs_is_waited_for_by_one_request_at_a_time(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PATIENCE_S", 3.0)
    async with (
        relayed(database_url) as (url, relay),
        running(settings.model_copy(update={"database_url": url})) as api,
    ):
        relay.freeze()
        in_vain = await api.get("/connections")
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(api.get("/connections")) for _ in range(50)]
            page = group.create_task(api.get("/errors/UNAVAILABLE"))
            # All but the one that asks are answered while Postgres still hangs.
            await _until_done(calls, 49)
            waiting = sum(not call.done() for call in calls)
        relay.thaw()
        back = [await api.get("/connections") for _ in range(2)]

    answers = [call.result() for call in calls]
    assert in_vain.status_code == 503
    assert waiting == 1
    assert {(answer.status_code, answer.json()["code"], answer.headers["retry-after"]) for answer in answers} == {
        (503, "UNAVAILABLE", "1")
    }
    assert page.result().status_code == 200
    assert [answer.status_code for answer in back] == [200, 200]
