"""`session:init` and `session:close` on a real Postgres and a host with a simulated WhatsApp, each also run twice."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from functions import session_close, session_init
from functions.resources import Resources
from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared import settings as shared_settings
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.hosts.client import HostClient, open_http
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


@dataclass
class Stage:
    queues: Queues
    server: SimulatedWhatsApp
    use: Resources
    folder: Path

    async def init(self, session: ConnectionId, **data: object) -> Outcome:
        return await self._applied(await session_init.handle(job(QueueName.SESSION_INIT, session, data), self.use))

    async def close(self, session: ConnectionId, reason: str) -> Outcome:
        asked = job(QueueName.SESSION_CLOSE, session, {"reason": reason})
        return await self._applied(await session_close.handle(asked, self.use))

    async def pair(self, session: ConnectionId) -> None:
        await self.init(session)
        self.server.scan(await until_qr(self.queues.pool, session), PHONE)
        await until_status(self.queues.pool, session, "connected")

    async def status(self, session: ConnectionId) -> str:
        return str((await row(self.queues.pool, session))["status"])

    async def _applied(self, outcome: Outcome) -> Outcome:
        async with self.queues.transaction() as tx:
            await tx.apply(outcome.writes)
        return outcome


def job(queue: QueueName, session: ConnectionId, data: dict[str, object]) -> Job:
    return Job(
        pk=1,
        job_id="x",
        queue=queue,
        name="x",
        data={"sessionId": str(session), **data},
        attempt=1,
        max_attempts=4,
        stalled=0,
        fence=1,
        group=str(session),
        order_key=None,
        priority=10,
        created_at=datetime.now(UTC),
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
        client = HostClient(queues.pool, http, send_timeout_s=20)
        use = cast("Resources", SimpleNamespace(pool=queues.pool, queues=queues, hosts=client))
        yield Stage(queues, SimulatedWhatsApp(), use, tmp_path / "journal")
    shared_settings.load.cache_clear()


def host(stage: Stage, **options: Any) -> Any:
    return simulated_host("a", stage.queues, stage.server, stage.folder, **options)


async def test_an_init_is_done_when_a_host_has_the_session_and_again_changes_nothing(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        first = await stage.init(session)
        await until_qr(stage.queues.pool, session)
        epoch = (await row(stage.queues.pool, session))["lease_epoch"]
        second = await stage.init(session)

        assert isinstance(first, Done)
        assert isinstance(second, Done)
        assert first.result == {"success": True, "sessionId": str(session), "status": "initializing"}
        assert (await row(stage.queues.pool, session))["lease_epoch"] == epoch


async def test_a_restart_begins_anew(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.pair(session)
        before = (await row(stage.queues.pool, session))["lease_epoch"]
        assert isinstance(await stage.init(session, restart=True), Done)

        async def is_back() -> bool:
            found = await row(stage.queues.pool, session)
            return bool(found["status"] == "connected" and found["lease_epoch"] > before)

        assert await until(is_back)


async def test_without_a_host_an_init_is_tried_again_and_fails_the_connection_at_its_last_try(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)

    outcome = await stage.init(session)

    assert isinstance(outcome, Retry)
    assert outcome.failure.code == "HOST_UNREACHABLE"
    assert await stage.status(session) == "initializing"
    async with stage.queues.transaction() as tx:
        await tx.apply(outcome.last_writes)
    found = await row(stage.queues.pool, session)
    assert (found["status"], found["status_reason"]) == ("failed", "HOST_UNREACHABLE")


async def test_jobs_of_connections_that_never_were_are_discarded(stage: Stage) -> None:
    nobody = ConnectionId(uuid4())

    assert isinstance(await stage.init(nobody), Discard)
    assert isinstance(await stage.close(nobody, "stop"), Discard)


@pytest.mark.parametrize("reason", ["stop", "manual"])
async def test_a_stop_closes_the_socket_stays_linked_and_again_changes_nothing(stage: Stage, reason: str) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.pair(session)

        assert isinstance(await stage.close(session, reason), Done)
        assert isinstance(await stage.close(session, reason), Done)

        found = await row(stage.queues.pool, session)
        assert (found["status"], found["desired"], found["host_id"]) == ("closed", "offline", None)
        assert found["device_jid"] is not None
        await stage.init(session)
        await until_status(stage.queues.pool, session, "connected")


@pytest.mark.parametrize(("reason", "status"), [("logout", "logged_out"), ("delete", "closed")])
async def test_unlinking_leaves_no_device_also_when_no_host_had_the_session(
    stage: Stage, reason: str, status: str
) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.pair(session)
        await stage.close(session, "stop")

        assert isinstance(await stage.close(session, reason), Done)
        assert isinstance(await stage.close(session, reason), Done)

        assert await stage.status(session) == status
        assert stage.server.devices == set()


async def test_a_session_that_nobody_paired_is_just_closed(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.init(session)
        await until_qr(stage.queues.pool, session)

        assert isinstance(await stage.close(session, "delete"), Done)

        assert await stage.status(session) == "closed"


async def test_a_logout_that_nobody_can_do_ends_closed_and_says_so(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.pair(session)

    outcome = await stage.close(session, "logout")

    assert isinstance(outcome, Retry)
    async with stage.queues.transaction() as tx:
        await tx.apply(outcome.last_writes)
    found = await row(stage.queues.pool, session)
    assert (found["status"], found["status_reason"]) == ("closed", "logout_not_confirmed")
    assert found["device_jid"] is not None


async def test_a_close_that_ends_without_its_handlers_word_is_a_close_that_nobody_could_do(stage: Stage) -> None:
    session = await new_connection(stage.queues.pool)
    async with host(stage):
        await stage.pair(session)
    failure = Failure(code="STALLED", detail="Its worker died too often.", retryable=False)
    assert session_close.queue.work.on_ended is not None

    async with stage.queues.transaction() as tx:
        await tx.apply(session_close.queue.work.on_ended({"sessionId": str(session), "reason": "delete"}, failure))

    found = await row(stage.queues.pool, session)
    assert (found["status"], found["status_reason"]) == ("closed", "delete_not_confirmed")
