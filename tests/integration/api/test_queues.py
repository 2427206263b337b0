"""Queues and jobs over HTTP: numbers, the emergency stop, dead letters, taking jobs out."""

from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.api.conftest import Ledger, running

QUEUES = {
    *("session:init", "session:close", "message:receive", "message:send", "message:status", "webhook:delivery"),
    "maintenance:cleanup",
}

OF_ALL = (
    *(("GET", "/queues"), ("GET", "/queues/session:init"), ("GET", "/queues/session:init/jobs")),
    *(
        ("POST", "/queues/pause"),
        ("POST", "/queues/resume"),
        ("POST", "/queues/clean"),
        ("POST", "/maintenance/cleanup"),
    ),
    *(("POST", f"/queues/session:init/{call}") for call in ("pause", "resume", "clean", "retry-failed")),
)


async def _kill(database: Connection, job_id: str, *, code: str = "BOOM") -> None:
    """Make a job a dead letter."""
    await database.execute(
        "UPDATE jobs SET state = 'failed', dedupe = NULL, finished_at = now(), error = $2 WHERE job_key = $1",
        job_id,
        {"code": code},
    )
    await database.execute("UPDATE job_groups SET pending = pending - 1 WHERE pending > 0")


async def test_every_queue_tells_its_numbers(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    listed = {one["name"]: one for one in (await api.get("/queues")).json()["data"]}

    assert listed.keys() == QUEUES
    init = (await api.get("/queues/session%3Ainit")).json()
    assert (init["waiting"], init["total"], init["paused"], init["dlq"]) == (1, 1, False, 0)


async def test_a_paused_queue_accepts_and_keeps_work(api: httpx.AsyncClient, database: Connection) -> None:
    assert (await api.post("/queues/session:init/pause")).status_code == 202

    assert (await api.post("/connections", json={"label": "a"})).status_code == 202
    assert (await api.get("/queues/session:init")).json()["paused"] is True
    await api.post("/queues/session:init/resume")
    assert (await api.get("/queues/session:init")).json()["paused"] is False


async def test_the_emergency_stop_pauses_all(api: httpx.AsyncClient) -> None:
    await api.post("/queues/pause")
    assert all(one["paused"] for one in (await api.get("/queues")).json()["data"])
    await api.post("/queues/resume")
    assert not any(one["paused"] for one in (await api.get("/queues")).json()["data"])


async def test_jobs_are_listed_page_by_page(api: httpx.AsyncClient) -> None:
    for n in range(3):
        await api.post("/connections", json={"label": f"c{n}"})

    first = (await api.get("/queues/session:init/jobs?limit=2")).json()
    second = (await api.get("/queues/session:init/jobs", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [len(first["data"]), len(second["data"]), second["next_cursor"]] == [2, 1, None]
    assert first["data"][0]["data"]["label"] == "c2"
    assert (await api.get("/queues/session:init/jobs?state=failed")).json()["data"] == []


async def test_a_job_shows_the_contract_s_fields(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    job = (await api.get(f"/jobs/session-init-{connection['id']}")).json()

    assert job.keys() == {
        *("id", "name", "queue", "state", "priority", "attempts", "max_attempts", "run_at", "data", "result"),
        *("error", "progress", "group", "created_at", "finished_at"),
    }
    assert (job["state"], job["attempts"], job["max_attempts"], job["priority"]) == ("waiting", 0, 4, 10)


async def test_a_dead_letter_runs_again(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    job_id = f"session-init-{connection['id']}"
    assert (await api.post(f"/jobs/{job_id}/retry")).json()["code"] == "INVALID_STATE"
    await _kill(database, job_id)

    answer = await api.post(f"/jobs/{job_id}/retry")

    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")


async def test_dead_letters_run_again_by_filter(api: httpx.AsyncClient, database: Connection) -> None:
    made = [(await api.post("/connections", json={"label": "a"})).json()["connection"]["id"] for _ in range(3)]
    for n, one in enumerate(made):
        await _kill(database, f"session-init-{one}", code=f"E{n}")
    path = "/queues/session:init/retry-failed"

    assert (await api.post(path, json={"dry_run": True})).json()["count"] == 3
    assert (await api.post(path, json={"filter": {"error_code": "E1"}})).json()["count"] == 1
    assert (await api.post(path, json={"filter": {"connection_id": made[0]}})).json()["count"] == 1
    assert (await api.post(path, json={"ids": [f"session-init-{made[0]}"]})).json()["count"] == 0
    assert (await api.post(path, json={})).json()["count"] == 1
    assert (await api.get("/queues/session:init")).json()["dlq"] == 0


@pytest.mark.parametrize(
    "body",
    [{"filter": {"error": "x"}}, {"ids": []}, {"limit": 0}, {"dry_run": "yes"}, {"filter": {"created_after": 5}}],
)
async def test_a_wrong_filter_is_refused(api: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await api.post("/queues/session:init/retry-failed", json=body)).status_code == 422


async def test_a_waiting_job_is_cancelled_and_an_ended_one_forgotten(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    path = f"/jobs/session-init-{connection['id']}"

    assert (await api.delete(path)).status_code == 202
    assert (await api.get(path)).json()["state"] == "cancelled"
    assert (await api.delete(path)).status_code == 202
    assert (await api.get(path)).status_code == 404


async def test_a_running_job_is_asked_to_stop(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, ledger: Ledger
) -> None:
    await database.execute("UPDATE jobs SET state = 'active', lease_until = now() + interval '1 m', fence = 1")
    before = await ledger.rows()

    answer = await api.delete(f"/jobs/session-init-{connection['id']}")

    assert (answer.status_code, answer.json()["stopping"]) == (202, True)
    assert await database.fetchval("SELECT state FROM jobs") == "active"
    assert await ledger.rows() == before


async def test_a_send_that_runs_is_left_alone(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    body = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
    sent = (await api.post(f"/connections/{connection['id']}/send", json=body)).json()
    await database.execute(
        "UPDATE jobs SET state = 'active', lease_until = now() + interval '1 m', fence = 1 WHERE name = 'send-message'"
    )

    answer = await api.delete(f"/jobs/{sent['job']['id']}")

    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_STATE")
    assert (await api.get(f"/messages/{sent['message']['id']}")).json()["status"] == "queued"


async def test_cleaning_takes_only_what_ended_long_ago(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await _kill(database, f"session-init-{connection['id']}")
    body = {"state": "failed", "older_than_seconds": 3600}

    assert (await api.post("/queues/session:init/clean", json=body)).json()["count"] == 0
    await database.execute("UPDATE jobs SET finished_at = now() - interval '2 hours'")
    assert (await api.post("/queues/clean", json=body)).json()["count"] == 1
    assert (await api.post("/queues/clean", json={"state": "waiting"})).status_code == 422


async def test_a_cleanup_is_one_job_a_minute(api: httpx.AsyncClient, database: Connection) -> None:
    first = (await api.post("/maintenance/cleanup")).json()
    # Even when the first has ended already, the same minute makes no second one.
    await database.execute("UPDATE jobs SET state = 'completed', dedupe = NULL, finished_at = now()")
    second = (await api.post("/maintenance/cleanup")).json()

    assert first["job"]["id"].startswith("cleanup-")
    assert first["deduplicated"] is False
    assert second["deduplicated"] or second["job"]["id"] != first["job"]["id"]
    assert second["job"]["state"] == ("completed" if second["deduplicated"] else "waiting")


async def test_calls_on_many_jobs_need_no_body(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await _kill(database, f"session-init-{connection['id']}")

    retried = await api.post("/queues/session:init/retry-failed")
    assert retried.json() == {"count": 1, "dry_run": False, "complete": True}
    assert (await api.post("/queues/clean")).json() == {"count": 0, "complete": True}
    assert (await api.post("/queues/session:init/clean")).json() == {"count": 0, "complete": True}


async def dead_messages(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, count: int
) -> list[str]:
    """So many messages that were refused for good, with their dead letters."""
    wanted = [{"to": f"5511900{n:06d}", "type": "text", "payload": {"text": "Hi"}} for n in range(count)]
    answer = await api.post(f"/connections/{connection['id']}/send/batch", json={"messages": wanted})
    ids = [one["message"]["id"] for one in answer.json()["results"]]
    error = {"code": "NUMBER_NOT_ON_WHATSAPP", "detail": "no", "retryable": False}
    await database.execute(
        "SELECT message_move_v1(id, 'dlq', NULL, NULL, NULL, $2, NULL) FROM unnest($1::uuid[]) id", ids, error
    )
    for id_ in ids:
        await _kill(database, f"msg-send-{id_}", code="NUMBER_NOT_ON_WHATSAPP")
    return ids


async def test_alldead_messages_are_sent_again_by_one_call(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    ids = await dead_messages(api, connection, database, 3)
    path = "/queues/message:send/retry-failed"

    counted = await api.post(path, json={"dry_run": True})
    limited = await api.post(path, json={"limit": 1, "filter": {"group": connection["id"]}})
    rest = await api.post(path, json={"filter": {"error_code": "NUMBER_NOT_ON_WHATSAPP"}})

    assert [one.json()["count"] for one in (counted, limited, rest)] == [3, 1, 2]
    assert (await api.get("/queues/message:send")).json()["dlq"] == 0
    for id_ in ids:
        assert (await api.get(f"/messages/{id_}")).json()["status"] == "queued"
        assert (await api.get(f"/jobs/msg-retry-{id_}-1")).json()["state"] == "waiting"


async def test_a_dead_letter_whose_message_moved_on_is_not_sent_again(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    sent, doubtful, dead = await dead_messages(api, connection, database, 3)
    await database.execute("UPDATE messages SET status = 'sent' WHERE id = $1::text::uuid", sent)
    await database.execute("UPDATE messages SET status = 'unknown' WHERE id = $1::text::uuid", doubtful)
    path = "/queues/message:send/retry-failed"

    counted = await api.post(path, json={"dry_run": True})
    retried = await api.post(path)
    named = await api.post(path, json={"ids": [f"msg-send-{doubtful}", f"msg-send-{sent}"]})

    assert [one.json()["count"] for one in (counted, retried, named)] == [1, 1, 1]
    assert (await api.get(f"/messages/{sent}")).json()["status"] == "sent"
    assert (await api.get(f"/messages/{dead}")).json()["status"] == "queued"


async def test_a_message_retried_by_itself_leaves_no_dead_letter(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    [dead] = await dead_messages(api, connection, database, 1)

    await api.post(f"/messages/{dead}/retry")

    assert (await api.get("/queues/message:send")).json()["dlq"] == 0


async def test_a_cancelled_job_takes_its_message_along(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    sent = await api.post(
        f"/connections/{connection['id']}/send", json={"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
    )
    path = f"/jobs/{sent.json()['job']['id']}"

    assert (await api.delete(path)).status_code == 202
    assert (await api.get(f"/messages/{sent.json()['message']['id']}")).json()["status"] == "canceled"


async def test_a_job_with_data_of_no_sense_is_taken_out_too(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    job_id = f"session-init-{connection['id']}"
    await database.execute("UPDATE jobs SET queue = 4, data = '{\"messageDbId\": 7}' WHERE job_key = $1", job_id)
    await database.execute("UPDATE job_groups SET pending = 1 WHERE queue = 4")

    assert (await api.delete(f"/jobs/{job_id}")).status_code == 202
    assert (await api.get(f"/jobs/{job_id}")).json()["state"] == "cancelled"


async def test_a_key_of_some_connections_sees_their_jobs_and_no_queue(
    api: httpx.AsyncClient, connection: dict[str, Any], settings: Settings
) -> None:
    other = (await api.post("/connections", json={"label": "Other"})).json()["connection"]
    scopes = ["queues:read", "queues:write"]
    made = await api.post("/api-keys", json={"name": "k", "scopes": scopes, "connection_ids": [connection["id"]]})
    async with running(settings, key=made.json()["key"]) as limited:
        own = await limited.get(f"/jobs/session-init-{connection['id']}")
        foreign = [
            await limited.request(method, f"/jobs/session-init-{other['id']}{tail}")
            for method, tail in (("GET", ""), ("POST", "/retry"), ("DELETE", ""))
        ]
        refused = [await limited.request(method, path) for method, path in OF_ALL]

    assert own.status_code == 200
    assert {one.status_code for one in foreign} == {404}
    assert {one.status_code for one in refused} == {403}


async def test_every_call_is_described(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]

    for method, path in (*OF_ALL, ("POST", "/messages/cancel"), ("POST", "/messages/retry")):
        call = paths[path.replace("session:init", "{name}")][method.lower()]
        assert call["summary"]
