"""What is wrong with one session, or slow, leaves the others of its host alone."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from session_host.journal import Journal
from session_host.sends import SendDesk
from session_host.whatsapp.simulated import SimulatedClient
from shared.db import connections, leases
from shared.hosts import protocol
from tests.contract.hosts.simulated_host import new_connection, row, until, until_qr, until_status
from tests.contract.hosts.test_host_commands import PHONE, Stage, events, stage

__all__ = ["stage"]

OTHER = "5511988880002"


async def is_renewed_again(stage: Stage, session: Any, since: datetime) -> datetime:
    async def look() -> datetime | None:
        found: datetime | None = (await row(stage.queues.pool, session))["lease_until"]
        return found if found is not None and found > since else None

    found = await until(look, within_s=4)
    assert found is not None
    return found


async def test_a_session_that_closes_slowly_at_a_restart_costs_the_others_neither_socket_nor_lease(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = await new_connection(stage.queues.pool), await new_connection(stage.queues.pool)
    closing, may_close = asyncio.Event(), asyncio.Event()
    stop = SimulatedClient.stop

    async def stop_slowly(self: SimulatedClient, *, deadline_s: float) -> bool:
        if self.spec.connection_id == slow:
            closing.set()
            await may_close.wait()
        return await stop(self, deadline_s=deadline_s)

    async with stage.host("a", lease_s=1.5) as host:
        await stage.pair(slow)
        await stage.pair(other, OTHER)
        client = host.roster.get(other).client
        monkeypatch.setattr(SimulatedClient, "stop", stop_slowly)

        restarting = asyncio.ensure_future(host.roster.open(slow, restart=True))
        await closing.wait()
        until_then = (await row(stage.queues.pool, other))["lease_until"]
        for _ in range(3):
            until_then = await is_renewed_again(stage, other, until_then)
        kept = host.roster.get(other)
        may_close.set()
        await restarting

        assert (kept.client, kept.may_send) == (client, True)
        assert "session.disconnected" not in await events(stage, other)


@pytest.mark.parametrize("name", ["renew", "adoptable"])
async def test_transactions_that_meet_close_no_socket(name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    session, meets = await new_connection(stage.queues.pool), 7
    run = getattr(leases, name)
    goes_through = asyncio.Event()

    async def meet(*args: Any, **options: Any) -> Any:
        nonlocal meets
        meets -= 1
        if meets >= 0:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        goes_through.set()
        return await run(*args, **options)

    async with stage.host("a", lease_s=1.5) as host:
        await stage.pair(session)
        client = host.roster.get(session).client
        meets = 2 if name == "adoptable" else meets
        monkeypatch.setattr(leases, name, meet)
        async with asyncio.timeout(10):
            await goes_through.wait()

        assert host.roster.get(session).client is client
        assert "session.disconnected" not in await events(stage, session)


async def test_a_session_that_no_host_can_take_does_not_keep_the_next_one_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are taken in the order of their ids.
    broken, sound = sorted([await new_connection(stage.queues.pool) for _ in range(2)])
    async with stage.host("a", lease_s=60.0):
        await stage.pair(broken)
        await stage.pair(sound, OTHER)
    claim = leases.claim

    async def claim_or_fail(connection: Any, connection_id: Any, *args: Any, **options: Any) -> Any:
        if connection_id == broken:
            raise asyncpg.CheckViolationError("a row that breaks a rule")
        return await claim(connection, connection_id, *args, **options)

    monkeypatch.setattr(leases, "claim", claim_or_fail)
    async with stage.host("b"):
        found = await until_status(stage.queues.pool, sound, "connected")

        assert found["host_id"] == "b"


async def test_a_journal_of_a_dead_process_that_cannot_be_read_closes_no_socket_and_keeps_no_session_waiting(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await new_connection(stage.queues.pool)

    def unreadable(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setattr(Journal, "orphans", unreadable)
    async with stage.host("a") as host:
        await stage.client.open(session)
        stage.server.scan(await until_qr(stage.queues.pool, session), PHONE)
        await until_status(stage.queues.pool, session, "connected")

        assert await host.feed.replay_orphans() == 0
        assert "session.disconnected" not in await events(stage, session)


async def test_a_pairing_code_that_cannot_be_written_down_does_not_end_its_session(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await new_connection(stage.queues.pool, pairing_phone=PHONE)
    show, fails = connections.set_pair_code, 1

    async def show_or_fail(*args: Any, **options: Any) -> Any:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise ConnectionResetError
        return await show(*args, **options)

    monkeypatch.setattr(connections, "set_pair_code", show_or_fail)
    async with stage.host("a", lease_s=60.0) as host:
        await stage.client.open(session)
        code = await until_qr(stage.queues.pool, session)
        held = host.roster.get(session)
        stage.server.expire_code(code)

        async def is_shown() -> Any:
            return (await row(stage.queues.pool, session))["pair_code"]

        await until(is_shown)
        assert host.roster.get(session) is held


async def test_who_closes_a_session_that_went_to_another_host_meanwhile_is_told_so(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=60.0) as host:
        owner = await stage.pair(session)
        held = host.roster.get(session)

        async def settle(*_: Any, **__: Any) -> None:
            await held.drop()

        monkeypatch.setattr(SendDesk, "settle", settle)
        answer = await stage.client.close(owner, protocol.Close(connection_id=session, epoch=owner.epoch))

        assert answer == protocol.NotOwner()
        assert (await row(stage.queues.pool, session))["status"] == "connected"
