"""What becomes of sessions by themselves: bans that end, leases that lapse, many that begin at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_host.state import StoreBack
from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared import settings as shared_settings
from shared.db import leases
from shared.hosts import protocol
from shared.hosts.client import HostClient, open_http
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.contract.hosts.simulated_host import TOKEN, new_connection, row, until, until_qr, until_status
from tests.contract.hosts.test_host_commands import PHONE, Stage, send_command


@pytest.fixture
async def stage(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "a-secret-key-for-tests")
    monkeypatch.setenv("ZAPHUB_TRANSPORT", "memory")
    shared_settings.load.cache_clear()
    async with await Queues.open(Settings()) as queues, open_http(TOKEN) as http:
        yield Stage(queues, SimulatedWhatsApp(), HostClient(queues.pool, http, send_timeout_s=20), tmp_path / "journal")
    shared_settings.load.cache_clear()


async def test_a_ban_that_is_over_ends_by_itself_and_one_without_an_end_waits_for_a_person(stage: Stage) -> None:
    for_now, for_good = await new_connection(stage.queues.pool), await new_connection(stage.queues.pool)
    other = "5511988880002"
    async with stage.host("a"):
        before = await stage.pair(for_now)
        await stage.pair(for_good, other)
        stage.server.ban(PHONE, expires_in_s=3600)
        stage.server.ban(other, expires_in_s=0)
        banned = await until_status(stage.queues.pool, for_now, "banned")
        await until_status(stage.queues.pool, for_good, "banned")

        async def is_due() -> bool:
            return bool(
                await stage.queues.pool.fetchval(
                    "SELECT retry_at > now() + interval '3600 s' FROM connections WHERE id = $1 AND host_id IS NULL",
                    for_now,
                )
            )

        await until(is_due)
        # An hour and some seconds go by.
        await stage.queues.pool.execute("UPDATE connections SET retry_at = now() WHERE id = $1", for_now)
        await until_status(stage.queues.pool, for_now, "connected")
        after = await row(stage.queues.pool, for_now)

        assert banned["status_reason"].startswith("send_to_too_many_people until ")
        assert (after["device_jid"], after["retry_at"]) == (before.device_jid, None)
        assert after["lease_epoch"] > before.epoch
        assert [(await row(stage.queues.pool, for_good))[name] for name in ("status", "retry_at")] == ["banned", None]


async def test_a_ban_that_is_over_is_not_tried_again_when_the_user_wants_it_offline(stage: Stage) -> None:
    session, pool = await new_connection(stage.queues.pool), stage.queues.pool
    async with stage.host("a"):
        await stage.pair(session)
        stage.server.ban(PHONE, expires_in_s=3600)
        await until_status(pool, session, "banned")
    await pool.execute("UPDATE connections SET retry_at = now() WHERE id = $1", session)

    found = []
    for desired in ("online", "offline"):
        await pool.execute("UPDATE connections SET desired = $2 WHERE id = $1", session, desired)
        found.append(await leases.adoptable(pool, limit=10))

    assert found == [[session], []]


async def test_a_host_that_cannot_renew_sends_nothing_once_its_lease_is_over_though_nobody_has_taken_it(
    stage: Stage,
) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=2.0) as host:
        owner = await stage.pair(session)
        host.die()

        async def refuses() -> bool:
            answer = await stage.client.send(owner, send_command(session, owner))
            return isinstance(answer, protocol.NotConnected)

        await until(refuses)
        sent = len(stage.server.wire)
        assert await stage.client.send(owner, send_command(session, owner)) == protocol.NotConnected()
        assert len(stage.server.wire) == sent


async def test_sessions_that_begin_one_at_a_time_all_come_online(stage: Stage) -> None:
    phones = {await new_connection(stage.queues.pool): f"551198888001{n}" for n in range(4)}
    async with stage.host("a", lease_s=60.0):
        for session, phone in phones.items():
            await stage.pair(session, phone)

    async with stage.host("b", connects_at_once=1):
        for session in phones:
            found = await until_status(stage.queues.pool, session, "connected")
            assert found["host_id"] == "b"


async def test_a_session_that_waits_for_its_turn_is_not_forgotten_when_something_else_happens(stage: Stage) -> None:
    first, second = await new_connection(stage.queues.pool), await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=60.0, connects_at_once=1) as host:
        # It has the only turn for some seconds more, as its phone sends its history.
        await stage.pair(first)
        await stage.client.open(second)
        waiting = host.roster.get(second)
        assert waiting is not None

        waiting.tell(StoreBack())

        await until_qr(stage.queues.pool, second)


async def test_a_session_that_was_taken_while_leases_were_renewed_is_not_taken_for_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, renew = await new_connection(stage.queues.pool), leases.renew
    has_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def renew_slowly(*args: Any, **options: Any) -> Any:
        answer = await renew(*args, **options)
        has_asked.set()
        await may_answer.wait()
        return answer

    monkeypatch.setattr(leases, "renew", renew_slowly)
    async with stage.host("a", lease_s=60.0) as host:
        await has_asked.wait()
        await stage.client.open(session)
        held = host.roster.get(session)
        may_answer.set()
        monkeypatch.setattr(leases, "renew", renew)

        owner = await stage.pair(session)
        assert host.roster.get(session) is held
        assert owner.epoch == 1
