"""Hosts that are killed, phones that unlink, servers that refuse: what a session, a message and a try come to."""

import asyncio
import os
import signal
from collections.abc import Callable
from itertools import count

import pytest

from shared.domain.errors import HostUnreachable
from shared.hosts import protocol
from tests.wire.session_host.stage import RECEIVE, HostProcess, Stage, lookup_of, send_command, until

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

_numbers = count(1)
Start = Callable[..., HostProcess]


def new_phone() -> str:
    return f"55119777{next(_numbers):05d}"


async def test_a_killed_childs_session_is_back_without_a_code_and_receives_what_came_meanwhile(
    stage: Stage, start_host: Start
) -> None:
    phone, host = new_phone(), start_host()
    child = await host.until_ready()
    session = await stage.connection()
    before = await stage.pair(session, phone)

    os.kill(child, signal.SIGKILL)
    wire_id = stage.inbound(phone, "are you there?")
    await host.until_ready(but=child)
    after = await stage.until_status(session, "connected", above_epoch=before.epoch)

    assert after["device_jid"] == before.device_jid
    [job] = await stage.until_jobs(RECEIVE)
    assert job["waMessageId"] == wire_id


async def test_a_stop_ends_every_process_in_seconds_also_with_a_code_on_show(stage: Stage, start_host: Start) -> None:
    host = start_host()
    child = await host.until_ready()
    online, pairing = await stage.connection(), await stage.connection()
    await stage.pair(online, new_phone())
    await stage.client.open(pairing)
    await stage.until_qr(pairing)

    code = await asyncio.to_thread(host.stop)

    assert code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    for session in (online, pairing):
        row = await stage.row(session)
        assert (row["status"], row["host_id"], row["qr_code"]) == ("disconnected", None, None)


async def test_a_host_whose_child_cannot_start_ends_at_once_with_the_reason(start_host: Start) -> None:
    host = start_host(ZAPHUB_FAKE_WHATSAPP_URL="http://127.0.0.1:1")

    code = await asyncio.to_thread(host.process.wait, 30)

    said = host.log.read_text()
    assert code == 1
    assert said.count("host_child_died") == 1, said
    assert "Connection refused" in said


async def test_children_die_with_a_supervisor_that_is_killed(stage: Stage, start_host: Start) -> None:
    host = start_host()
    child = await host.until_ready()

    host.process.kill()
    await asyncio.to_thread(host.process.wait)

    async def is_gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return False

    await until(is_gone, within_s=60)


@pytest.mark.parametrize("failpoint", ["journal_appended", "journal_before_commit", "journal_after_commit"])
async def test_a_message_that_came_in_survives_a_crash_as_one_job(
    stage: Stage, start_host: Start, failpoint: str
) -> None:
    phone, host = new_phone(), start_host(ZAPHUB_FAILPOINT=failpoint)
    child = await host.until_ready()
    session = await stage.connection()
    await stage.pair(session, phone)

    wire_id = stage.inbound(phone, "do not lose me")
    await host.until_ready(but=child)
    await stage.until_status(session, "connected", above_epoch=1)
    later = stage.inbound(phone, "nor me")
    jobs = await stage.until_jobs(RECEIVE, count=2)

    assert [job["waMessageId"] for job in jobs] == [wire_id, later]


@pytest.mark.parametrize(("failpoint", "has_left"), [("host_before_send", False), ("host_after_send", True)])
async def test_a_try_that_a_crash_cut_off_is_settled_by_its_secret(
    stage: Stage, start_host: Start, failpoint: str, has_left: bool
) -> None:
    phone, host = new_phone(), start_host(ZAPHUB_FAILPOINT=failpoint)
    child = await host.until_ready()
    session = await stage.connection()
    before = await stage.pair(session, phone)
    command = send_command(session, before, text="once")

    with pytest.raises(HostUnreachable):
        await stage.client.send(before, command)
    await host.until_ready(but=child)
    await stage.until_status(session, "connected", above_epoch=before.epoch)
    answer = await stage.client.lookup(await stage.owner(session), lookup_of(command, before))

    on_wire = [one["wire_id"] for one in stage.fake.wire(phone)]
    assert answer == (protocol.Left(wire_id=on_wire[0]) if has_left else protocol.NeverLeft())
    assert len(on_wire) == (1 if has_left else 0)


async def test_an_end_that_whatsapp_decides_is_a_status_never_a_hang(stage: Stage, start_host: Start) -> None:
    await start_host().until_ready()

    for fault in ("replaced", "logged_out", "banned"):
        phone, session = new_phone(), await stage.connection()
        await stage.pair(session, phone)
        stage.fake.post("/faults", {"kind": fault, "session_phone": phone})
        row = await stage.until_status(session, fault)
        assert (row["device_jid"] is None) == (fault == "logged_out")


async def test_a_broken_socket_comes_back_by_itself_and_refusals_have_codes(stage: Stage, start_host: Start) -> None:
    phone = new_phone()
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)

    stage.fake.post("/faults", {"kind": "ack_error", "code": 463, "session_phone": phone})
    restricted = await stage.client.send(owner, send_command(session, owner, text="hello"))
    stage.fake.post("/faults", {"kind": "drop_connection", "session_phone": phone})

    async def sent() -> protocol.Sent | None:
        answer = await stage.client.send(owner, send_command(session, owner, text="back"))
        return answer if isinstance(answer, protocol.Sent) else None

    assert isinstance(restricted, protocol.Refused)
    assert restricted.code == "CHAT_RESTRICTED"
    assert await until(sent)


async def test_a_phone_is_unlinked_and_paired_again(stage: Stage, start_host: Start) -> None:
    phone = new_phone()
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)

    answer = await stage.client.logout(owner, protocol.Logout(connection_id=session, epoch=owner.epoch))
    after = await stage.row(session)
    again = await stage.pair(session, phone)

    assert answer == protocol.Ended(unlinked=True)
    assert (after["status"], after["device_jid"], after["host_id"]) == ("logged_out", None, None)
    assert again.epoch > owner.epoch
