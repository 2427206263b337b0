"""`/metrics`: what it tells, to whom, and that the totals count each job and event once."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from shared.db.pool import Connection
from shared.domain.jobs import NewJob, QueueName
from shared.queues import ledger, watch
from shared.queues.ledger import Finish, FinishKind
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.api.conftest import running

_RULES = Path(__file__).parents[3] / "docs" / "prometheus-rules.yml"
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
CLEANUP = QueueName.MAINTENANCE_CLEANUP


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Queues]:
    async with await Queues.open(settings) as opened:
        yield opened


async def _scraped(api: httpx.AsyncClient) -> dict[str, float]:
    """Every sample by its name and labels. The API asks the database once a second, so each scrape is a new process."""
    answer = await api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        name + (f"{{{labels}}}" if labels else ""): float(value) for name, labels, value in _SAMPLE.findall(answer.text)
    }


async def _fresh(settings: Settings) -> dict[str, float]:
    async with running(settings, key=None) as api:
        return await _scraped(api)


async def _finish(connection: Connection, *kinds: FinishKind) -> None:
    """So many jobs of maintenance:cleanup, which end like this at their first try."""
    await ledger.enqueue(connection, [NewJob(queue=CLEANUP, job_id=str(uuid4()), name="n", data={}) for _ in kinds])
    jobs = await ledger.claim(connection, slots={CLEANUP: len(kinds)}, worker="w")
    ends = [Finish(pk=job.pk, fence=job.fence, queue=CLEANUP, kind=kind) for job, kind in zip(jobs, kinds, strict=True)]
    await ledger.finish(connection, ends)


async def test_it_tells_what_the_contract_names(
    api: httpx.AsyncClient, connection: dict[str, Any], settings: Settings
) -> None:
    samples = await _scraped(api)

    assert samples['zaphub_queue_depth{queue="session:init"}'] == 1
    assert samples['zaphub_jobs{queue="session:init",state="waiting"}'] == 1
    assert samples['zaphub_queue_ready{queue="session:init"}'] == 1
    assert samples['zaphub_oldest_job_seconds{queue="session:init"}'] >= 0
    assert samples['zaphub_dlq{queue="session:init"}'] == 0
    assert samples['zaphub_worker_utilization{queue="session:init"}'] == 0
    assert samples['zaphub_connections{status="initializing"}'] == 1
    assert samples["zaphub_database_up"] == 1
    assert {name.partition("{")[0] for name in samples} >= {
        *("zaphub_jobs_processed_total", "zaphub_job_duration_seconds_bucket", "zaphub_job_wait_seconds_sum"),
        *("zaphub_messages_total", "zaphub_webhook_attempts_total", "zaphub_queue_work_seconds"),
        "zaphub_http_request_duration_seconds_count",
    }
    assert samples['zaphub_http_request_duration_seconds_count{route="/connections",method="POST",status="202"}'] == 1


async def test_no_label_holds_an_id(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    await api.get(f"/connections/{connection['id']}")
    await api.get(f"/nothing/{connection['id']}")
    await api.request("INVENTED", f"/connections/{connection['id']}")

    text = (await api.get("/metrics")).text

    assert connection["id"] not in text
    assert "INVENTED" not in text


async def test_every_ended_job_is_counted_once(
    api: httpx.AsyncClient, settings: Settings, queues: Queues, database: Connection
) -> None:
    await _finish(database, FinishKind.DONE, FinishKind.DONE, FinishKind.FAIL)
    assert await watch.look(queues, every_s=0)
    await _finish(database, FinishKind.DONE)
    await watch.look(queues, every_s=0)
    await watch.look(queues, every_s=0)

    samples = await _fresh(settings)

    assert samples['zaphub_jobs_processed_total{queue="maintenance:cleanup",status="completed"}'] == 3
    assert samples['zaphub_jobs_processed_total{queue="maintenance:cleanup",status="failed"}'] == 1
    assert samples['zaphub_job_duration_seconds_count{queue="maintenance:cleanup"}'] == 4
    assert samples['zaphub_job_wait_seconds_bucket{queue="maintenance:cleanup",le="+Inf"}'] == 4


async def test_what_commits_late_is_counted_all_the_same(
    api: httpx.AsyncClient, settings: Settings, queues: Queues, database: Connection
) -> None:
    async with queues.pool.acquire() as late:
        slow = late.transaction()
        await slow.start()
        await _finish(late, FinishKind.DONE)
        await watch.look(queues, every_s=0)
        await slow.commit()
    await watch.look(queues, every_s=0)

    samples = await _fresh(settings)

    assert samples['zaphub_jobs_processed_total{queue="maintenance:cleanup",status="completed"}'] == 1


async def test_messages_and_webhook_tries_are_counted_by_their_events(
    api: httpx.AsyncClient, connection: dict[str, Any], settings: Settings, queues: Queues
) -> None:
    sent = await api.post(
        f"/connections/{connection['id']}/send", json={"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
    )
    await api.post(f"/messages/{sent.json()['message']['id']}/cancel")
    for _ in range(3):
        await watch.look(queues, every_s=0)

    samples = await _fresh(settings)

    assert samples['zaphub_messages_total{direction="outbound",status="queued"}'] == 1
    assert samples['zaphub_messages_total{direction="outbound",status="canceled"}'] == 1
    assert samples['zaphub_messages_total{direction="inbound",status="delivered"}'] == 0
    assert samples['zaphub_webhook_attempts_total{result="failed"}'] == 0


async def test_one_of_many_looks(queues: Queues) -> None:
    looked = await asyncio.gather(*(watch.look(queues) for _ in range(4)))

    assert sorted(looked) == [False, False, False, True]


async def test_what_is_paused_is_no_work_for_more_workers(
    api: httpx.AsyncClient, connection: dict[str, Any], settings: Settings
) -> None:
    await api.post("/queues/session:init/pause")

    samples = await _fresh(settings)

    assert samples['zaphub_queue_ready{queue="session:init"}'] == 0
    assert samples['zaphub_queue_work_seconds{queue="session:init"}'] == 0
    assert samples['zaphub_queue_paused{queue="session:init"}'] == 1
    assert samples['zaphub_queue_depth{queue="session:init"}'] == 1


async def test_a_setting_closes_it(settings: Settings, api: httpx.AsyncClient) -> None:
    closed = settings.model_copy(update={"metrics_open": False})
    reader = (await api.post("/api-keys", json={"name": "r", "scopes": ["queues:read"]})).json()["key"]
    other = (await api.post("/api-keys", json={"name": "o", "scopes": ["messages:read"]})).json()["key"]

    async with running(closed, key=None) as stranger:
        answers = [
            await stranger.get("/metrics", headers={} if key is None else {"X-API-Key": key})
            for key in (None, other, reader)
        ]

    assert [one.status_code for one in answers] == [401, 403, 200]


async def test_the_rules_for_prometheus_name_what_it_tells(api: httpx.AsyncClient) -> None:
    told = {name.partition("{")[0] for name in await _scraped(api)}

    rules = yaml.safe_load(_RULES.read_text())["groups"][0]["rules"]

    asked = {name for rule in rules for name in re.findall(r"zaphub_[a-z_]+", rule["expr"])}
    assert asked >= {"zaphub_queue_depth", "zaphub_jobs_processed_total"}
    assert asked <= told
