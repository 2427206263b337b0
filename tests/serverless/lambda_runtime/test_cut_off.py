"""An environment that is frozen past its lease or timed out in the middle of a send: it leaves once, and ends once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from functions.resources import Resources
from functions.worker import works
from local.lambda_runtime.__main__ import spec
from local.lambda_runtime.environment import InvocationFailed
from local.lambda_runtime.function import Function
from local.queue_table import table
from shared.db.pool import Record
from shared.domain.ids import MessageId
from shared.domain.jobs import QueueName
from shared.hosts import protocol
from shared.queues.outage import Outage
from shared.queues.runtime import Queues
from shared.queues.sweeper import Sweeper
from tests.integration.sending.conftest import HOST, Office, ScriptedHost, sent

SEND = QueueName.MESSAGE_SEND
EVENT = {"Records": [{"messageId": "one", "body": SEND.value}]}
DONE = {"batchItemFailures": []}
# For a cold start on a busy machine.
_PATIENCE_S = 30


class Host:
    """A session host on loopback: what left is on its `wire`, and the answer to its first send waits for `answers`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.is_first_lost = False
        self.sends: list[protocol.Send] = []
        self.wire: list[protocol.Send] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(f"{protocol.COMMANDS}/send", self._send)
        app.router.add_post(f"{protocol.COMMANDS}/lookup", self._lookup)
        return app

    async def _send(self, request: web.Request) -> web.Response:
        command = protocol.Send.model_validate_json(await request.read())
        self.sends.append(command)
        is_first = len(self.sends) == 1
        if not (is_first and self.is_first_lost):
            self.wire.append(command)
        if is_first:
            self.asked.set()
            await self.answers.wait()
        return _said(sent(command))

    async def _lookup(self, request: web.Request) -> web.Response:
        lookup = protocol.Lookup.model_validate_json(await request.read())
        left = [one for one in self.wire if (one.message_id, one.send_no) == (lookup.message_id, lookup.send_no)]
        return _said(sent(left[0]) if left else protocol.NeverLeft())


def _said(answer: protocol.Sent | protocol.NeverLeft) -> web.Response:
    return web.Response(text=answer.model_dump_json(), content_type="application/json")


@pytest.fixture
async def host(queues: Queues) -> AsyncIterator[Host]:
    made = Host()
    runner = web.AppRunner(made.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await queues.pool.execute("INSERT INTO hosts (id, address, capacity) VALUES ($1, $2, 9)", HOST, address)
    yield made
    made.answers.set()
    await runner.cleanup()


@pytest.fixture
def office(queues: Queues) -> Office:
    """Makes sessions and messages; what sends them are the functions."""
    return Office(queues, ScriptedHost(), cast("Resources", SimpleNamespace()))


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_DATA_DIR", str(tmp_path))


@asynccontextmanager
async def _function(**changes: Any) -> AsyncIterator[Function]:
    """The function of `message:send`, as `./zh up --lambda` starts it."""
    [entry] = [one for one in table()["queues"] if one["queue"] == SEND]
    function = Function(replace(spec(entry), **changes), most_at_once=2)
    try:
        yield function
    finally:
        await function.close()


@asynccontextmanager
async def _in_the_middle_of_a_send(function: Function, host: Host) -> AsyncIterator[asyncio.Task[Any]]:
    """An invocation whose host has the message and has not answered."""
    async with asyncio.TaskGroup() as group:
        invocation = group.create_task(function.invoke(EVENT))
        async with asyncio.timeout(_PATIENCE_S):
            await host.asked.wait()
        yield invocation


async def _take_back(queues: Queues) -> None:
    """What the sweeper does once the lease has lapsed."""
    await queues.pool.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'active'")
    sweeper = Sweeper(queues, works, outage=Outage("postgres"), on_turn=lambda: None)
    async with queues.pool.acquire() as connection:
        await sweeper.sweep_once(connection)


async def _job(queues: Queues, message: MessageId) -> Record:
    [row] = await queues.pool.fetch("SELECT * FROM jobs WHERE job_key = $1", f"msg-{message}")
    return row


async def _events(queues: Queues) -> int:
    count: int = await queues.pool.fetchval("SELECT count(*) FROM events WHERE type = 'message.sent'")
    return count


async def test_an_environment_frozen_past_its_lease_has_no_say_when_it_thaws(
    queues: Queues, host: Host, office: Office, capfd: pytest.CaptureFixture[str]
) -> None:
    message = await office.message(await office.session())
    async with _function() as function:
        async with _in_the_middle_of_a_send(function, host) as invocation:
            [frozen] = function.environments
            frozen._freeze()
            await _take_back(queues)
            assert await function.invoke(EVENT) == DONE
            ended = await _job(queues, message)
            assert "job_claim_lapsed" not in capfd.readouterr().out

            host.answers.set()
            frozen._signal(signal.SIGCONT)
            assert await invocation == DONE

        assert function.cold_starts == 2
    assert "job_claim_lapsed" in capfd.readouterr().out
    assert (ended["state"], ended["attempt"]) == ("completed", 2)
    assert await _job(queues, message) == ended
    assert await office.status(message) == "sent"
    assert (len(host.wire), await _events(queues)) == (1, 1)


async def test_a_send_cut_off_by_the_functions_timeout_is_made_by_the_next_invocation(
    queues: Queues, host: Host, office: Office
) -> None:
    host.is_first_lost = True
    # Enough to claim (5 s) and no cold start in it.
    async with _function(timeout_s=7.0) as function:
        assert await function.invoke(EVENT) == DONE
        message = await office.message(await office.session())
        with pytest.RaisesGroup(pytest.RaisesExc(InvocationFailed, match=r"Sandbox\.Timedout")):
            async with _in_the_middle_of_a_send(function, host):
                # One that still turns ends its try before its time is up; this one no longer does.
                [stuck] = function.environments
                stuck._signal(signal.SIGSTOP)
        assert function.environments == []
    assert (await _job(queues, message))["state"] == "active"

    await _take_back(queues)
    async with _function() as function:
        assert await function.invoke(EVENT) == DONE

    job = await _job(queues, message)
    assert (job["state"], job["attempt"]) == ("completed", 2)
    assert await office.status(message) == "sent"
    assert [one.send_no for one in host.sends] == [1, 2]
    assert (len(host.wire), await _events(queues)) == (1, 1)
