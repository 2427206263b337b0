"""Alerts as their events: raised once however often somebody looks or starts anew, resolved, told to endpoints."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from shared.domain.jobs import NewJob, QueueName
from shared.queues import ledger, watch
from shared.queues.ledger import Finish, FinishKind
from shared.queues.runtime import Queues
from shared.settings import Settings

CLEANUP = QueueName.MAINTENANCE_CLEANUP


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Queues]:
    async with await Queues.open(settings) as opened:
        yield opened


async def _events(database: Connection) -> list[Any]:
    rows = await database.fetch("SELECT type, severity, payload FROM events WHERE category = 'queue' ORDER BY position")
    return [(row["type"], row["severity"], row["payload"]["queue"], row["payload"]["state"]) for row in rows]


async def _fill(database: Connection, jobs: int) -> None:
    await database.execute(
        "INSERT INTO jobs (job_key, queue, name, state, priority, max_attempts, position, data) "
        "SELECT 'fill-' || n, 6, 'n', 'waiting', 3, 1, n, '{}' FROM generate_series(1, $1) n",
        jobs,
    )


async def _pass_time(database: Connection, minutes: int) -> None:
    await database.execute(
        "UPDATE queue_alerts "
        "SET since = since - passed, raised_at = raised_at - passed, calm_since = calm_since - passed "
        "FROM make_interval(mins => $1) passed",
        minutes,
    )


async def test_a_backlog_is_told_once_and_its_end_once(
    settings: Settings, queues: Queues, database: Connection
) -> None:
    await _fill(database, 1001)
    await watch.look(queues, every_s=0)
    assert await _events(database) == []

    await _pass_time(database, 5)
    for _ in range(3):
        # Another process each time: what is raised is known to all of them.
        async with await Queues.open(settings) as another:
            await watch.look(another, every_s=0)
    assert await _events(database) == [("queue.backlog", "warn", "webhook:delivery", "raised")]

    await database.execute("DELETE FROM jobs")
    for _ in range(3):
        await watch.look(queues, every_s=0)
        await _pass_time(database, 1)

    assert await _events(database) == [
        ("queue.backlog", "warn", "webhook:delivery", "raised"),
        ("queue.backlog", "info", "webhook:delivery", "resolved"),
    ]
    assert await database.fetchval("SELECT count(*) FROM queue_alerts") == 0


async def test_failing_jobs_are_told_with_their_share(queues: Queues, database: Connection) -> None:
    jobs = [NewJob(queue=CLEANUP, job_id=f"j-{n}", name="n", data={}) for n in range(100)]
    await ledger.enqueue(database, jobs)
    claimed = await ledger.claim(database, slots={CLEANUP: 100}, worker="w")
    kinds = [FinishKind.FAIL] * 10 + [FinishKind.DONE] * 90
    ends = [
        Finish(pk=job.pk, fence=job.fence, queue=CLEANUP, kind=kind) for job, kind in zip(claimed, kinds, strict=True)
    ]
    await ledger.finish(database, ends)

    await watch.look(queues, every_s=0)

    [payload] = await database.fetchrow("SELECT payload FROM events WHERE type = 'queue.failing'") or ()
    assert (payload["failure_rate"], payload["threshold"], payload["state"]) == (0.1, 0.05, "raised")


@pytest.mark.parametrize(("subscribed", "is_told"), [(["queue.*"], True), (["*"], True), (["message.*"], False)])
async def test_endpoints_that_subscribe_are_told(
    queues: Queues, database: Connection, subscribed: list[str], *, is_told: bool
) -> None:
    await database.execute(
        "INSERT INTO webhook_endpoints (id, tenant_id, url, secrets_encrypted, events) "
        "SELECT gen_random_uuid(), id, 'https://192.0.2.1/', '', $1 FROM tenants",
        subscribed,
    )
    await _fill(database, 1001)
    await watch.look(queues, every_s=0)
    await _pass_time(database, 5)

    await watch.look(queues, every_s=0)

    assert await database.fetchval("SELECT fan_out FROM events WHERE type = 'queue.backlog'") is is_told
    fan_outs = await database.fetchval("SELECT count(*) FROM jobs WHERE job_key = 'webhook-fanout-system'")
    assert fan_outs == (1 if is_told else 0)


async def test_a_look_that_dies_has_not_been(
    queues: Queues, database: Connection, monkeypatch: pytest.MonkeyPatch, api: httpx.AsyncClient
) -> None:
    await _fill(database, 1001)
    await watch.look(queues, every_s=0)
    await _pass_time(database, 5)

    async def die(*_: object, **__: object) -> bool:
        raise OSError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr("shared.db.watch.record_event", die)
        with pytest.raises(OSError, match="cut off"):
            await watch.look(queues, every_s=0)
    await watch.look(queues, every_s=0)

    assert await _events(database) == [("queue.backlog", "warn", "webhook:delivery", "raised")]


@pytest.mark.parametrize(("lapsed_s", "status"), [(60, "disconnected"), (5, "connected")])
async def test_a_session_that_no_host_takes_is_disconnected_and_its_messages_say_so(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    database: Connection,
    queues: Queues,
    lapsed_s: int,
    status: str,
) -> None:
    await database.execute(
        "UPDATE connections SET status = 'connected', host_id = 'h', lease_epoch = 1, "
        "lease_until = now() - make_interval(secs => $1)",
        lapsed_s,
    )
    await database.execute("UPDATE job_groups SET reasons = '{}'")

    await watch.look(queues, every_s=0)

    shown = (await api.get(f"/connections/{connection['id']}")).json()
    is_lost = status == "disconnected"
    assert (shown["status"], shown["status_reason"]) == (status, "host_lost" if is_lost else None)
    assert shown["sending"]["paused_reasons"] == (["connection_offline"] if is_lost else [])
