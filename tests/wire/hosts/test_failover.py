"""A host dies, stops, comes or hangs: its sessions go on with another, without a code, and never with two at once."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from shared.db import hosts
from shared.domain.errors import HostUnreachable
from shared.hosts import protocol
from shared.hosts.client import HostNotReached
from tests.wire.hosts.cable import Cable
from tests.wire.hosts.machines import (
    Start,
    cut_power,
    frozen,
    held_by,
    new_phone,
    processes_of,
    seen_by_whatsapp,
    until_ended,
    until_moved,
)
from tests.wire.session_host.stage import HostProcess, Stage, lookup_of, send_command, until

pytestmark = [
    pytest.mark.wire,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not Path("/proc").exists(), reason="Linux"),
]


async def a_host(start_host: Start, tmp_path: Path, name: str, **extra: str) -> HostProcess:
    """A machine of its own: another journal, and nothing shared but Postgres."""
    host = start_host(ZAPHUB_DATA_DIR=str(tmp_path / name), **extra)
    await host.until_ready()
    return host


async def test_the_sessions_of_a_machine_that_dies_are_back_on_another_without_a_code(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    first = await a_host(start_host, tmp_path, "a", ZAPHUB_HOST_MOVES_AT_ONCE="0")
    phones = {await stage.connection(): new_phone() for _ in range(3)}
    before = {session: await stage.pair(session, phone) for session, phone in phones.items()}
    await a_host(start_host, tmp_path, "b")

    cut_power(first)
    after = await until_moved(stage, before)

    session, former = next(iter(before.items()))
    sent = await stage.client.send(after[session], send_command(session, after[session], text="here again"))
    assert isinstance(sent, protocol.Sent)
    assert {one.device_jid for one in after.values()} == {one.device_jid for one in before.values()}
    with pytest.raises(HostNotReached):
        await stage.client.send(former, send_command(session, former, text="to a dead host"))
    assert len(stage.fake.wire(phones[session])) == 1


async def test_the_former_hosts_late_login_is_not_taken_for_the_users_and_the_next_one_is(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    phone, session = new_phone(), await stage.connection()
    first = await a_host(start_host, tmp_path, "a")
    owner = await stage.pair(session, phone)
    await asyncio.to_thread(first.stop)
    await a_host(start_host, tmp_path, "b")
    await stage.until_status(session, "connected", above_epoch=owner.epoch)
    logins = seen_by_whatsapp(stage, phone)["connects"]

    # As if the former host had logged in once more.
    stage.fake.post("/faults", {"kind": "replaced", "session_phone": phone})

    async def is_back() -> bool:
        row, seen = await stage.row(session), seen_by_whatsapp(stage, phone)
        return row["status"] == "connected" and seen["connected"] and seen["connects"] == logins + 1

    await until(is_back)
    stage.fake.post("/faults", {"kind": "replaced", "session_phone": phone})
    row = await stage.until_status(session, "replaced")

    assert row["status_reason"] == "logged_in_elsewhere"
    assert seen_by_whatsapp(stage, phone)["connects"] == logins + 1


async def test_a_stop_lets_a_send_end_and_hands_over_at_once(stage: Stage, start_host: Start, tmp_path: Path) -> None:
    # A lease so long that nobody waits for its end.
    first = await a_host(start_host, tmp_path, "a", ZAPHUB_HOST_MOVES_AT_ONCE="0", ZAPHUB_HOST_LEASE_S="120")
    phones = {await stage.connection(): new_phone() for _ in range(2)}
    before = {session: await stage.pair(session, phone) for session, phone in phones.items()}
    await a_host(start_host, tmp_path, "b", ZAPHUB_HOST_LEASE_S="120")
    session, owner = next(iter(before.items()))
    stage.fake.post("/faults", {"kind": "ack_delay", "ms": 1000, "session_phone": phones[session]})

    sending = asyncio.ensure_future(stage.client.send(owner, send_command(session, owner, text="on its way")))

    async def is_on_the_wire() -> bool:
        return bool(stage.fake.wire(phones[session]))

    await until(is_on_the_wire)
    code = await asyncio.to_thread(first.stop)

    assert isinstance(await sending, protocol.Sent)
    assert code == 0
    await until_moved(stage, before)
    assert len(stage.fake.wire(phones[session])) == 1


async def test_a_host_that_joins_gets_its_part_and_no_session_goes_while_it_sends(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    await a_host(start_host, tmp_path, "a", ZAPHUB_HOST_LEASE_S="2")
    phones = {await stage.connection(): new_phone() for _ in range(3)}
    before = {session: await stage.pair(session, phone) for session, phone in phones.items()}
    [busy, *_] = before
    # WhatsApp does not answer this one, so it is on its way for longer than the test takes.
    stage.fake.post("/faults", {"kind": "no_ack", "session_phone": phones[busy]})
    sending = asyncio.ensure_future(
        stage.client.send(before[busy], send_command(busy, before[busy], text="not while I speak"))
    )

    await a_host(start_host, tmp_path, "b", ZAPHUB_HOST_LEASE_S="2")

    async def is_spread() -> bool:
        return sorted((await held_by(stage)).values()) == [1, 2]

    await until(is_spread)
    assert not sending.done()
    assert (await stage.owner(busy)).epoch == before[busy].epoch
    assert len(stage.fake.wire(phones[busy])) == 1
    sending.cancel()
    assert all(seen_by_whatsapp(stage, phone)["connected"] for phone in phones.values())


async def test_a_host_that_hung_past_its_lease_ends_before_it_sends_or_logs_in(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    first = await a_host(start_host, tmp_path, "a", ZAPHUB_HOST_MOVES_AT_ONCE="0")
    phone, session = new_phone(), await stage.connection()
    former = await stage.pair(session, phone)
    await a_host(start_host, tmp_path, "b", ZAPHUB_HOST_MOVES_AT_ONCE="0")
    [_, hung] = processes_of(first)
    late = send_command(session, former, text="from the dead")

    with frozen(first):
        asking = asyncio.ensure_future(stage.client.send(former, late))
        await stage.until_status(session, "connected", above_epoch=former.epoch)
        after = await stage.owner(session)
        logins = seen_by_whatsapp(stage, phone)["connects"]
        assert not asking.done()
    with pytest.raises(HostUnreachable):
        await asking
    await until_ended(hung)
    await first.until_ready(but=hung)

    assert await stage.client.lookup(after, lookup_of(late, former)) == protocol.NeverLeft()
    assert await stage.client.send(after, late) == protocol.Refused(
        code="UNAVAILABLE", detail="This try was looked up and found not sent before it arrived."
    )
    assert await stage.client.send(after, send_command(session, former, text="an old epoch")) == protocol.NotOwner()
    assert stage.fake.wire(phone) == []
    assert "its leases lapsed" in first.log.read_text()
    # The server saw no login but the new owner's, which is connected all the while.
    row = await stage.row(session)
    assert (row["status"], row["lease_epoch"]) == ("connected", after.epoch)
    assert seen_by_whatsapp(stage, phone) == {**seen_by_whatsapp(stage, phone), "connected": True, "connects": logins}


async def test_a_host_that_is_cut_off_from_postgres_has_closed_its_sockets_before_another_logs_in(
    stage: Stage, start_host: Start, tmp_path: Path, database_url: str
) -> None:
    phone, session = new_phone(), await stage.connection()
    with Cable(database_url).laid() as cable:
        first = await a_host(
            start_host,
            tmp_path,
            "a",
            ZAPHUB_DATABASE_URL=cable.url,
            ZAPHUB_HOST_LEASE_S="6",
            ZAPHUB_HOST_MOVES_AT_ONCE="0",
        )
        child = first.child_pid()
        owner = await stage.pair(session, phone)
        await a_host(start_host, tmp_path, "b", ZAPHUB_HOST_LEASE_S="6", ZAPHUB_HOST_MOVES_AT_ONCE="0")
        begun = seen_by_whatsapp(stage, phone)["connects"]

        cable.unplug()

        async def is_closed() -> bool:
            seen = seen_by_whatsapp(stage, phone)
            assert seen["connects"] == begun, "the other host logged in while this one was connected"
            return not seen["connected"]

        await until(is_closed)
        await stage.until_status(session, "connected", above_epoch=owner.epoch)
        after = await stage.owner(session)
        cable.plug_in()

        async def has_let_go() -> bool:
            answer = await stage.client.send(owner, send_command(session, owner, text="from the former host"))
            return answer == protocol.NotOwner()

        await until(has_let_go)
        assert after.host_id != owner.host_id
        assert stage.fake.wire(phone) == []
        assert seen_by_whatsapp(stage, phone)["connects"] == begun + 1
        assert (await stage.row(session))["status"] == "connected"
        # It lives, and holds what it will be given.
        assert first.child_pid() == child
        await asyncio.to_thread(first.stop)


async def test_a_dead_childs_sessions_need_not_wait_for_its_lease_and_its_address_is_nobodys(
    stage: Stage, start_host: Start, tmp_path: Path, free_port: int
) -> None:
    host = await a_host(
        start_host,
        tmp_path,
        "a",
        ZAPHUB_HOST_LEASE_S="120",
        ZAPHUB_HOST_BIND="0.0.0.0",
        ZAPHUB_HOST_PORT=str(free_port),
        ZAPHUB_HOST_ADVERTISE="localhost",
    )
    phone, session = new_phone(), await stage.connection()
    former = await stage.pair(session, phone)
    child = host.child_pid()
    assert child is not None

    os.kill(child, signal.SIGKILL)
    await host.until_ready(but=child)
    await stage.until_status(session, "connected", above_epoch=former.epoch)
    after = await stage.owner(session)

    assert former.address == f"http://localhost:{free_port}/{former.host_id}"
    assert after.address == f"http://localhost:{free_port}/{after.host_id}"
    with pytest.raises(HostNotReached, match="another process"):
        await stage.client.send(former, send_command(session, former, text="to who was here before"))
    assert isinstance(await stage.client.send(after, send_command(session, after, text="now")), protocol.Sent)


async def test_sessions_spread_over_children_up_to_their_bound_and_a_child_that_dies_takes_only_its_own_along(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    host = await a_host(start_host, tmp_path, "a", ZAPHUB_HOST_CHILDREN="2", ZAPHUB_HOST_SESSIONS="2")

    async def both_live() -> bool:
        return len(await hosts.live(stage.pool)) == 2

    await until(both_live)
    sessions = [await stage.connection() for _ in range(4)]
    for session in sessions:
        await stage.client.open(session)
        await stage.until_qr(session)
    owners = {session: await stage.owner(session) for session in sessions}
    child = host.child_pid()
    assert child is not None
    [dead] = {owner.host_id for owner in owners.values() if owner.host_id.rsplit("-", 2)[1] == "1"}

    with pytest.raises(HostUnreachable, match="room"):
        await stage.client.open(await stage.connection())
    os.kill(child, signal.SIGKILL)

    async def are_held_again() -> bool:
        held = {session: await hosts.owner(stage.pool, session) for session in sessions}
        return all(now is not None and now.host_id != dead for now in held.values())

    await until(are_held_again)
    now = {session: await stage.owner(session) for session in sessions}
    assert Counter(owner.host_id for owner in owners.values()).most_common() == [
        (owners[sessions[0]].host_id, 2),
        (owners[sessions[1]].host_id, 2),
    ]
    for session, owner in owners.items():
        assert now[session].epoch == owner.epoch + (1 if owner.host_id == dead else 0)


async def test_connections_that_postgres_closed_are_made_anew_unseen(
    stage: Stage, start_host: Start, tmp_path: Path
) -> None:
    await a_host(start_host, tmp_path, "a")
    phone, session = new_phone(), await stage.connection()
    owner = await stage.pair(session, phone)

    # As `idle_session_timeout` ends them after a minute.
    ended = await stage.pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name LIKE 'zaphub-device-store-%' AND state = 'idle'"
    )
    answers = [
        await stage.client.send(owner, send_command(session, owner, text=f"{n}", to=f"551199999100{n}"))
        for n in range(3)
    ]
    stage.inbound(phone, "can you hear me?")

    assert ended > 0
    assert all(isinstance(answer, protocol.Sent) for answer in answers)
    await stage.until_jobs(3)
    assert (await stage.row(session))["lease_epoch"] == owner.epoch
