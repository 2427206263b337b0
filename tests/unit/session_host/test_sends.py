"""What a host answers about its sends: repeats, busy sessions, wrong epochs, and what became of a try."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from session_host.numbers import KnownNumbers
from session_host.sends import SendDesk
from session_host.whatsapp.port import ClientSpec, Outgoing
from session_host.whatsapp.simulated import SimulatedClient, SimulatedWhatsApp
from shared.domain.ids import ConnectionId, HostId, WireId
from shared.hosts.protocol import (
    Ambiguous,
    Busy,
    CannotSay,
    Left,
    Lookup,
    NeverLeft,
    NotConnected,
    NotOwner,
    Refused,
    Running,
    Send,
    Sent,
)
from tests.contract.hosts.simulated_host import NoFiles, SharedMemory

HERE, ELSEWHERE = HostId("here"), HostId("elsewhere")


class HeldClient(SimulatedClient):
    """Sends when it is let go."""

    go: asyncio.Event

    async def send(self, message: Outgoing) -> Sent | Refused | Ambiguous | NotConnected:
        await self.go.wait()
        return await super().send(message)


@dataclass
class FakeSession:
    connection_id: ConnectionId
    client: HeldClient
    device_jid: str | None
    epoch: int = 3
    may_send: bool = True
    has_logged_in: bool = True


class Desk:
    def __init__(self, server: SimulatedWhatsApp, session: FakeSession, desk: SendDesk) -> None:
        self.server = server
        self.session = session
        self.desk = desk

    def command(self, **changes: object) -> Send:
        return Send.model_validate(
            {
                "connection_id": self.session.connection_id,
                "message_id": uuid4(),
                "send_no": 1,
                "secret": os.urandom(32),
                "epoch": 3,
                "to": "5511999990001@s.whatsapp.net",
                "type": "text",
                "payload": {"text": "hello"},
                **changes,
            }
        )

    def lookup(self, command: Send, **changes: object) -> Lookup:
        return Lookup.model_validate(
            {
                "connection_id": command.connection_id,
                "message_id": command.message_id,
                "send_no": command.send_no,
                "secret": command.secret,
                "send_host": HERE,
                "send_epoch": 3,
                "send_device": self.session.device_jid,
                **changes,
            }
        )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    server = SimulatedWhatsApp()
    spec = ClientSpec(connection_id=ConnectionId(uuid4()), device_jid=None, emit=lambda _: None, record=lambda _: None)
    client = HeldClient(spec, server)
    client.go = asyncio.Event()
    client.go.set()
    await client.start()
    [code] = server._pairing
    device = server.scan(code, "5511988880001")
    session = FakeSession(spec.connection_id, client, device)
    async with asyncio.TaskGroup() as group:
        yield Desk(server, session, SendDesk(HERE, server, KnownNumbers(SharedMemory(), server), NoFiles(), group))


async def test_a_repeated_try_joins_the_first_and_reaches_the_wire_once(desk: Desk) -> None:
    command = desk.command()
    desk.session.client.go.clear()

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(desk.desk.send(command, desk.session)) for _ in range(3)]
        await asyncio.sleep(0)
        desk.session.client.go.set()
    late = await desk.desk.send(command, desk.session)

    assert {call.result() for call in calls} == {late}
    assert isinstance(late, Sent)
    assert len(desk.server.wire) == 1


async def test_a_caller_that_goes_away_does_not_stop_the_send(desk: Desk) -> None:
    command = desk.command()
    desk.session.client.go.clear()

    caller = asyncio.ensure_future(desk.desk.send(command, desk.session))
    await asyncio.sleep(0)
    caller.cancel()
    desk.session.client.go.set()

    assert isinstance(await desk.desk.send(command, desk.session), Sent)
    assert len(desk.server.wire) == 1


async def test_a_session_that_sends_is_busy_for_another_message(desk: Desk) -> None:
    desk.session.client.go.clear()
    first = asyncio.ensure_future(desk.desk.send(desk.command(), desk.session))
    await asyncio.sleep(0)

    assert await desk.desk.send(desk.command(), desk.session) == Busy()

    desk.session.client.go.set()
    assert isinstance(await first, Sent)


async def test_another_epoch_is_refused_and_an_offline_session_sends_nothing(desk: Desk) -> None:
    assert await desk.desk.send(desk.command(epoch=2), desk.session) == NotOwner()
    assert await desk.desk.send(desk.command(), None) == NotOwner()
    desk.session.may_send = False
    assert await desk.desk.send(desk.command(), desk.session) == NotConnected()
    assert desk.server.wire == []


async def test_a_try_declined_offline_may_come_again(desk: Desk) -> None:
    command = desk.command()
    desk.session.may_send = False
    await desk.desk.send(command, desk.session)
    desk.session.may_send = True

    assert isinstance(await desk.desk.send(command, desk.session), Sent)


async def test_a_try_that_went_offline_before_its_frame_never_left_whatever_the_store_holds(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_the_socket(message: Outgoing) -> NotConnected:
        # The library stores the secret with a wire id before it finds that there is no socket.
        desk.server.traces[message.secret] = (desk.session.device_jid or "", WireId("3EB0"))
        return NotConnected()

    command = desk.command()
    desk.session.client.go.set()
    with monkeypatch.context() as offline:
        offline.setattr(desk.session.client, "send", lose_the_socket)
        assert await desk.desk.send(command, desk.session) == NotConnected()

    assert await desk.desk.lookup(desk.lookup(command), desk.session) == NeverLeft()
    # The worker begins another try now, so this one must not be sent any more.
    assert isinstance(await desk.desk.send(command, desk.session), Refused)


async def test_a_number_that_is_not_on_whatsapp_is_refused_for_good_before_anything_leaves(desk: Desk) -> None:
    desk.server.not_on_whatsapp.add("5511999990001")

    answer = await desk.desk.send(desk.command(), desk.session)

    assert isinstance(answer, Refused)
    assert (answer.code, answer.permanent) == ("NUMBER_NOT_ON_WHATSAPP", True)
    assert desk.server.wire == []


async def test_a_lookup_says_what_a_try_of_this_host_does_and_did(desk: Desk) -> None:
    command = desk.command()
    desk.session.client.go.clear()
    sending = asyncio.ensure_future(desk.desk.send(command, desk.session))
    await asyncio.sleep(0)

    assert await desk.desk.lookup(desk.lookup(command), desk.session) == Running()
    desk.session.client.go.set()
    answer = await sending

    assert await desk.desk.lookup(desk.lookup(command), desk.session) == answer


async def test_a_row_in_the_store_gives_the_wire_id_of_a_try_in_doubt(desk: Desk) -> None:
    desk.server.answers.append(Ambiguous(detail="no answer"))
    command = desk.command()

    await desk.desk.send(command, desk.session)

    [sent] = desk.server.wire
    assert await desk.desk.lookup(desk.lookup(command), desk.session) == Left(wire_id=sent.wire_id)
    assert await desk.desk.lookup(desk.lookup(command, send_host=ELSEWHERE), None) == Left(wire_id=sent.wire_id)


async def test_a_try_that_ended_in_doubt_here_without_a_row_proves_nothing(desk: Desk) -> None:
    desk.server.answers.append(Ambiguous(detail="a store error"))
    desk.server.leaves = False
    command = desk.command()

    await desk.desk.send(command, desk.session)

    assert isinstance(await desk.desk.lookup(desk.lookup(command), desk.session), CannotSay)


async def test_a_try_that_this_host_never_saw_never_left_and_never_will(desk: Desk) -> None:
    command = desk.command()

    assert await desk.desk.lookup(desk.lookup(command), desk.session) == NeverLeft()
    late = await desk.desk.send(command, desk.session)

    assert isinstance(late, Refused)
    assert not late.permanent
    assert desk.server.wire == []


@pytest.mark.parametrize(
    ("epoch", "has_logged_in", "device", "is_proof"),
    [
        pytest.param(4, True, "same", True, id="a later epoch has logged in with the same device"),
        pytest.param(4, False, "same", False, id="the later epoch has not logged in yet"),
        pytest.param(3, True, "same", False, id="the same epoch, but another process"),
        pytest.param(4, True, "5511988880001:9@s.whatsapp.net", False, id="linked anew: the traces are gone"),
    ],
)
async def test_another_hosts_try_without_a_row_never_left_only_if(
    desk: Desk, epoch: int, has_logged_in: bool, device: str, is_proof: bool
) -> None:
    command = desk.command()
    lookup = desk.lookup(command, send_host=ELSEWHERE)
    desk.session.epoch, desk.session.has_logged_in = epoch, has_logged_in
    if device != "same":
        desk.session.device_jid = device

    answer = await desk.desk.lookup(lookup, desk.session)

    assert isinstance(answer, NeverLeft if is_proof else CannotSay)


async def test_without_a_session_here_nothing_is_proved(desk: Desk) -> None:
    assert isinstance(await desk.desk.lookup(desk.lookup(desk.command()), None), CannotSay)


async def test_a_client_that_raises_leaves_the_try_in_doubt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_message: Outgoing) -> Sent:
        raise RuntimeError("a bug")

    monkeypatch.setattr(desk.session.client, "send", fail)

    assert isinstance(await desk.desk.send(desk.command(), desk.session), Ambiguous)
    assert not desk.desk.is_sending(desk.session.connection_id)
