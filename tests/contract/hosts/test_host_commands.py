"""HostClient and a host's command API, on Postgres and a simulated WhatsApp: who holds a session, and what it does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import pytest

from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared import settings as shared_settings
from shared.db import hosts, leases
from shared.domain.errors import HostUnreachable, Misconfigured
from shared.domain.ids import ConnectionId, HostId
from shared.hosts import protocol
from shared.hosts.client import HostClient, HostHttp, HostNotReached, open_http
from shared.hosts.signature import Signer
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.contract.hosts.simulated_host import (
    TOKEN,
    new_connection,
    row,
    simulated_host,
    until,
    until_qr,
    until_status,
)

PHONE = "5511988880001"
ID = str(uuid4())


@dataclass
class Stage:
    queues: Queues
    server: SimulatedWhatsApp
    client: HostClient
    folder: Path

    def host(self, name: str, **options: Any) -> Any:
        return simulated_host(name, self.queues, self.server, self.folder, **options)

    async def pair(self, connection_id: ConnectionId, phone: str = PHONE) -> hosts.Owner:
        await self.client.open(connection_id)
        self.server.scan(await until_qr(self.queues.pool, connection_id), phone)
        await until_status(self.queues.pool, connection_id, "connected")
        return await self.owner(connection_id)

    async def owner(self, connection_id: ConnectionId) -> hosts.Owner:
        found = await self.client.owner(connection_id)
        assert found is not None
        return found


def send_command(connection_id: ConnectionId, owner: hosts.Owner, **changes: object) -> protocol.Send:
    return protocol.Send.model_validate(
        {
            "connection_id": connection_id,
            "message_id": uuid4(),
            "send_no": 1,
            "secret": uuid4().bytes * 2,
            "epoch": owner.epoch,
            "to": "5511999990001@s.whatsapp.net",
            "type": "text",
            "payload": {"text": "hello"},
            **changes,
        }
    )


@pytest.fixture
async def stage(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "a-secret-key-for-tests")
    monkeypatch.setenv("ZAPHUB_TRANSPORT", "memory")
    shared_settings.load.cache_clear()
    async with (
        await Queues.open(Settings()) as queues,
        open_http(TOKEN) as http,
    ):
        yield Stage(queues, SimulatedWhatsApp(), HostClient(queues.pool, http, send_timeout_s=20), tmp_path / "journal")
    shared_settings.load.cache_clear()


async def events(stage: Stage, connection_id: ConnectionId) -> list[str]:
    rows = await stage.queues.pool.fetch(
        "SELECT type FROM events WHERE connection_id = $1 ORDER BY position", connection_id
    )
    return [one["type"] for one in rows]


async def test_a_session_is_opened_paired_used_and_closed_through_commands(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        owner = await stage.pair(session)
        again = await stage.client.open(session)
        sent = await stage.client.send(owner, send_command(session, owner))
        closed = await stage.client.close(owner, protocol.Close(connection_id=session, epoch=owner.epoch))
        after = await row(stage.queues.pool, session)

    assert again == protocol.Taken(status="online", epoch=owner.epoch)
    assert isinstance(sent, protocol.Sent)
    assert closed == protocol.Ended()
    assert (after["status"], after["host_id"], after["phone"]) == ("closed", None, PHONE)
    assert after["device_jid"] is not None
    assert [kind for kind in await events(stage, session) if kind != "session.status"] == [
        "session.qr",
        "session.connected",
        "session.closed",
    ]


async def test_a_wrong_token_is_refused_by_every_command_and_nothing_happens(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a") as host:
        async with open_http("wrong") as wrong:
            stranger = HostClient(stage.queues.pool, wrong, send_timeout_s=5)
            with pytest.raises(Misconfigured):
                await stranger.open(session)
        async with httpx.AsyncClient(headers={"Authorization": "Bearer wrong"}, trust_env=False) as http:
            for command in ("open", "close", "logout", "pair-code", "send", "lookup", "check", "state"):
                answer = await http.post(f"{host.address}/v1/{command}", content="{}")
                assert answer.status_code == 401
            bare = await http.post(f"{host.address}/v1/state", content="{}", headers={"Authorization": ""})
            assert bare.status_code == 401
        assert (await row(stage.queues.pool, session))["host_id"] is None


async def test_a_body_that_says_too_much_or_too_little_is_refused(stage: Stage) -> None:
    async with stage.host("a") as host, httpx.AsyncClient(trust_env=False) as http:
        little = await _signed(http, f"{host.address}/v1/open", b"{}")
        much = await _signed(http, f"{host.address}/v1/state", json.dumps({"connection_id": ID, "more": 1}).encode())

    assert (little.status_code, much.status_code) == (422, 422)


async def test_a_command_that_was_listened_to_is_taken_once(stage: Stage) -> None:
    body = json.dumps({"connection_id": ID}).encode()
    async with stage.host("a") as host, stage.host("b") as other, httpx.AsyncClient(trust_env=False) as http:
        url = f"{host.address}/v1/state"
        heard = {"Authorization": Signer(TOKEN).header(url, body)}
        elsewhere = {"Authorization": Signer(TOKEN).header(url, body)}

        first = await http.post(url, content=body, headers=heard)
        again = await http.post(url, content=body, headers=heard)
        changed = await http.post(url, content=b"{}", headers={"Authorization": Signer(TOKEN).header(url, body)})
        command = await http.post(f"{host.address}/v1/close", content=body, headers=elsewhere)
        at_another = await http.post(f"{other.address}/v1/state", content=body, headers=elsewhere)
        as_if = await http.post(
            f"{other.address}/v1/state",
            content=body,
            headers={**elsewhere, "Host": host.address.removeprefix("http://")},
        )

    assert first.status_code == 200
    assert {one.status_code for one in (again, changed, command, at_another, as_if)} == {401}


async def test_a_clock_that_is_wrong_is_told_from_a_token_that_is_wrong(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"), aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as http:
        late = HostHttp(http, Signer(TOKEN, clock=lambda: time.time() - 3600))
        with pytest.raises(HostUnreachable, match="clock"):
            await HostClient(stage.queues.pool, late, send_timeout_s=5).open(session)
        assert (await row(stage.queues.pool, session))["host_id"] is None


async def _signed(http: httpx.AsyncClient, url: str, body: bytes) -> httpx.Response:
    return await http.post(url, content=body, headers={"Authorization": Signer(TOKEN).header(url, body)})


async def test_without_a_living_host_a_session_cannot_be_opened(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)

    with pytest.raises(HostUnreachable):
        await stage.client.open(session)


async def test_a_full_host_is_left_out_and_the_least_loaded_one_is_asked(stage: Stage) -> None:
    sessions = [await new_connection(stage.queues.pool) for _ in range(3)]
    async with stage.host("a", capacity=1), stage.host("b", capacity=2):
        for session in sessions:
            await stage.client.open(session)
        with pytest.raises(HostUnreachable):
            await stage.client.open(await new_connection(stage.queues.pool))
        owners = [(await stage.owner(session)).host_id for session in sessions]

    assert sorted(owners) == ["a", "b", "b"]


async def test_a_host_that_lost_its_lease_refuses_commands_of_the_old_epoch_and_closes_the_session(
    stage: Stage,
) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a") as first:
        owner = await stage.pair(session)
        await stage.queues.pool.execute("UPDATE connections SET lease_until = now() WHERE id = $1", session)
        async with stage.queues.pool.acquire() as connection:
            stolen = await leases.claim(connection, session, HostId("thief"), ttl_s=60)
        assert stolen is not None

        async def let_go() -> bool:
            return first.roster.get(session) is None

        await until(let_go)
        answer = await stage.client.send(owner, send_command(session, owner))

        assert answer == protocol.NotOwner()
        assert stolen.epoch == owner.epoch + 1
        assert stage.server.wire == []
        assert not await leases.release(stage.queues.pool, session, epoch=owner.epoch)


async def test_a_dead_hosts_session_comes_back_on_another_without_a_code(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=2.0) as first:
        before = await stage.pair(session)
        async with stage.host("b", lease_s=2.0):
            first.die()

            async def is_b() -> bool:
                owner = await stage.client.owner(session)
                return owner is not None and owner.host_id == "b"

            await until(is_b, within_s=60)
            await until_status(stage.queues.pool, session, "connected")
            after = await stage.owner(session)

    assert after.epoch > before.epoch
    assert after.device_jid == before.device_jid
    assert "session.disconnected" in await events(stage, session)


async def test_a_pairing_in_progress_comes_back_too(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=2.0) as first:
        await stage.client.open(session)
        code = await until_qr(stage.queues.pool, session)
        async with stage.host("b", lease_s=2.0):
            first.die()

            async def is_b() -> bool:
                owner = await stage.client.owner(session)
                return owner is not None and owner.host_id == "b"

            await until(is_b, within_s=60)
            stage.server.scan(await until_qr(stage.queues.pool, session, but=code), PHONE)
            await until_status(stage.queues.pool, session, "connected")


async def test_a_connection_that_was_never_opened_is_not_adopted(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)

    assert await leases.adoptable(stage.queues.pool, limit=10) == []
    async with stage.host("a"):
        await stage.client.open(session)
        await until_qr(stage.queues.pool, session)
    assert await leases.adoptable(stage.queues.pool, limit=10) == [session]


async def test_a_host_that_stops_gives_its_leases_back_at_once(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=60.0):
        await stage.pair(session)

    after = await row(stage.queues.pool, session)
    assert (after["status"], after["status_reason"], after["host_id"]) == ("disconnected", "host_stopped", None)
    assert await hosts.live(stage.queues.pool) == []


async def test_a_host_that_nobody_listens_at_was_not_reached(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=60.0):
        owner = await stage.pair(session)
        gone = hosts.Owner(
            host_id=owner.host_id,
            address="http://127.0.0.1:9",
            epoch=owner.epoch,
            device_jid=owner.device_jid,
            status="connected",
        )
        with pytest.raises(HostNotReached):
            await stage.client.send(gone, send_command(session, owner))


async def test_unlinking_leaves_no_device_and_the_session_logged_out(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        owner = await stage.pair(session)
        answer = await stage.client.logout(owner, protocol.Logout(connection_id=session, epoch=owner.epoch))
        after = await row(stage.queues.pool, session)

    assert answer == protocol.Ended(unlinked=True)
    assert (after["status"], after["device_jid"], after["phone"]) == ("logged_out", None, PHONE)
    assert stage.server.devices == set()


async def test_a_deleted_session_without_a_host_is_opened_once_more_to_unlink_it(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        owner = await stage.pair(session)
        await stage.client.close(owner, protocol.Close(connection_id=session, epoch=owner.epoch))
        await stage.queues.pool.execute(
            "UPDATE connections SET deleted_at = now(), desired = 'offline' WHERE id = $1", session
        )
        refused = await stage.client.open(session)
        await stage.client.open(session, to_unlink=True)
        owner = await stage.owner(session)
        command = protocol.Logout(connection_id=session, epoch=owner.epoch, is_deleted=True)
        answer = await stage.client.logout(owner, command)

    assert refused == protocol.NoSession()
    assert answer == protocol.Ended(unlinked=True)
    assert (await row(stage.queues.pool, session))["status"] == "closed"
    assert stage.server.devices == set()


async def test_a_pairing_code_is_shown_on_the_connection(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.client.open(session)
        await until_qr(stage.queues.pool, session)
        owner = await stage.owner(session)
        command = protocol.PairCode(connection_id=session, epoch=owner.epoch, phone=PHONE)
        answer = await stage.client.pair_code(owner, command)
        after = await row(stage.queues.pool, session)

    assert isinstance(answer, protocol.CodeShown)
    assert after["pair_code"] == answer.code
    assert "session.pair_code" in await events(stage, session)


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("replace", "replaced", "logged_in_elsewhere"),
        ("log_out", "logged_out", "logged_out"),
    ],
)
async def test_an_end_that_whatsapp_decides_is_a_status_and_frees_the_lease(
    stage: Stage, fault: str, status: str, reason: str
) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.pair(session)
        getattr(stage.server, fault)(PHONE)
        after = await until_status(stage.queues.pool, session, status)

        async def is_free() -> bool:
            return (await row(stage.queues.pool, session))["host_id"] is None

        await until(is_free)

    assert after["status_reason"] == reason


async def test_linking_another_number_cancels_what_was_parked_for_the_old_one(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.pair(session)
        stage.server.log_out(PHONE)
        await until_status(stage.queues.pool, session, "logged_out")
        message = uuid4()
        await stage.queues.pool.execute(
            "INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, type, payload,"
            " status) VALUES ($1, $2, 'one', 'outbound', 'api', true, '5511@s.whatsapp.net', 'text', '{}', 'queued')",
            message,
            session,
        )
        await stage.pair(session, "5511988880002")

        async def status() -> bool:
            found = await stage.queues.pool.fetchval("SELECT status FROM messages WHERE id = $1", message)
            return bool(found == "canceled")

        await until(status)


async def test_what_comes_in_becomes_jobs_and_the_journal_is_empty_then(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a") as host:
        await stage.pair(session)
        wire_ids = [stage.server.inbound(PHONE, sender="5511999990001", text=f"{n}") for n in range(20)]

        async def stored() -> list[str]:
            rows = await stage.queues.pool.fetch("SELECT data FROM jobs WHERE queue = 3 ORDER BY position")
            return [one["data"]["waMessageId"] for one in rows] if len(rows) == len(wire_ids) else []

        assert await until(stored) == wire_ids
        await host.feed.drain()
        assert host.journal.batch() is None


async def test_the_store_goes_away_and_sockets_close_until_it_is_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await new_connection(stage.queues.pool)
    async with stage.host("a", lease_s=60.0) as host:
        await stage.pair(session)
        away = asyncio.Event()
        see = hosts.see

        async def refuse(*args: Any) -> None:
            if away.is_set():
                raise ConnectionRefusedError
            await see(*args)

        monkeypatch.setattr(hosts, "see", refuse)
        away.set()

        async def is_closed() -> bool:
            held = host.roster.get(session)
            return held is not None and held.client is None

        await until(is_closed)
        away.clear()
        await until_status(stage.queues.pool, session, "connected")
