"""Calls to a session of a host: declined and answered once, through an outage of Postgres too."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from session_host.calls import Calls
from session_host.whatsapp.port import CallOffered
from shared.db import lifecycle
from shared.domain.connection_config import ConnectionConfig, RejectCalls
from shared.domain.ids import ConnectionId
from shared.hosts.protocol import NotConnected, Shown
from tests.contract.hosts.simulated_host import new_connection, until
from tests.contract.hosts.test_host_commands import Stage, stage  # noqa: F401 - a fixture

CALLER = "5511999990001@s.whatsapp.net"
DECLINES = ConnectionConfig(reject_calls=RejectCalls(enabled=True, text="Please write."))


class Line:
    """A client that declines calls, or is not connected."""

    def __init__(self, *, is_connected: bool = True) -> None:
        self.declined: list[tuple[str, str]] = []
        self._is_connected = is_connected

    async def reject_call(self, caller: str, call_id: str) -> Shown | NotConnected:
        if not self._is_connected:
            return NotConnected()
        self.declined.append((caller, call_id))
        return Shown()


def offer(*, age: timedelta = timedelta(), is_group: bool = False) -> CallOffered:
    at = datetime.now(UTC) - age
    return CallOffered(
        call_id=uuid4().hex,
        caller=CALLER,
        wire_caller="123@lid",
        is_group=is_group,
        timestamp_ms=int(at.timestamp() * 1000),
    )


async def _left(stage: Stage, session: ConnectionId) -> tuple[list[str], list[str]]:  # noqa: F811 - the fixture's value
    """The events about calls, and the messages that are to be sent."""
    events = await stage.queues.pool.fetch(
        "SELECT type FROM events WHERE connection_id = $1 AND category = 'call' ORDER BY position", session
    )
    messages = await stage.queues.pool.fetch("SELECT message_id FROM messages WHERE connection_id = $1", session)
    return [one["type"] for one in events], [one["message_id"] for one in messages]


async def _configured(stage: Stage, config: ConnectionConfig) -> ConnectionId:  # noqa: F811 - as above
    session = await new_connection(stage.queues.pool)
    async with stage.queues.pool.acquire() as connection:
        await lifecycle.update(connection, session, label="a", external_id=None, config=config.to_store(), metadata={})
    return session


@pytest.mark.parametrize(
    ("config", "said", "is_connected", "left"),
    [
        (ConnectionConfig(), {}, True, (["call.received"], 0, 0)),
        (DECLINES, {}, True, (["call.received", "call.rejected"], 1, 1)),
        (DECLINES, {"is_group": True}, True, (["call.received", "call.rejected"], 0, 1)),
        (DECLINES, {"age": timedelta(minutes=2)}, True, (["call.received"], 0, 0)),
        (DECLINES, {}, False, (["call.received"], 0, 0)),
    ],
    ids=["not wanted", "declined", "of a group", "over already", "offline"],
)
async def test_what_a_call_leaves_behind(
    stage: Stage,  # noqa: F811 - a fixture
    config: ConnectionConfig,
    said: dict[str, Any],
    is_connected: bool,
    left: tuple[list[str], int, int],
) -> None:
    session, call = await _configured(stage, config), offer(**said)
    line: Any = Line(is_connected=is_connected)
    calls = Calls(stage.queues)

    for _ in range(2):
        await calls.answer(session, line, call, config)

    events, messages = await _left(stage, session)
    assert (events, len(messages), len(line.declined)) == left
    assert set(messages) <= {f"call-{call.call_id}"}


async def test_an_offer_that_another_host_answered_already_sends_no_second_text(stage: Stage) -> None:  # noqa: F811
    session, call = await _configured(stage, DECLINES), offer()

    for _ in range(2):
        line: Any = Line()
        await Calls(stage.queues).answer(session, line, call, DECLINES)

    assert (await _left(stage, session))[1] == [f"call-{call.call_id}"]


async def test_a_call_is_declined_at_once_and_written_down_when_postgres_is_back(stage: Stage) -> None:  # noqa: F811
    session, call = await _configured(stage, DECLINES), offer()
    line: Any = Line()
    # Nobody else can write an event meanwhile.
    async with stage.queues.pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        answering = asyncio.ensure_future(Calls(stage.queues).answer(session, line, call, DECLINES))

        async def declined() -> bool:
            return bool(line.declined)

        await until(declined)
        assert not answering.done()
    await answering

    assert await _left(stage, session) == (["call.received", "call.rejected"], [f"call-{call.call_id}"])


async def test_a_simulated_contact_calls_a_session_of_a_host(stage: Stage) -> None:  # noqa: F811
    session = await _configured(stage, DECLINES)
    async with stage.host("a"):
        await stage.pair(session)
        stage.server.call("5511988880001", caller="5511999990001", call_id="C1")

        async def told() -> bool:
            return (await _left(stage, session))[1] == ["call-C1"]

        await until(told)

    assert (CALLER, "reject", "C1") in stage.server.signals
