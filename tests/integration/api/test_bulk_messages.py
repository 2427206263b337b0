"""Messages by a filter: counted, cancelled and retried together with jobs, history and events, or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.db import message_bulk
from shared.db.message_bulk import Meant, MessageFilter
from shared.db.pool import Connection
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.jobs import QueueName
from shared.domain.message import CANCELABLE, MessageStatus
from shared.queues import bulk_sends, ledger
from shared.queues.ledger import Finish, FinishKind
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.api.conftest import running

ALL = {"created_before": "2999-01-01T00:00:00Z"}


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Queues]:
    async with await Queues.open(settings) as opened:
        yield opened


async def _accept(
    api: httpx.AsyncClient, connection: dict[str, Any], count: int, **fields: Any
) -> list[dict[str, Any]]:
    """So many messages, each to a chat of its own."""
    wanted = [
        {"to": f"55119{n:08d}", "type": "text", "payload": {"text": "Hi"}, **fields}
        for n in range(10_000, 10_000 + count)
    ]
    answer = await api.post(f"/connections/{connection['id']}/send/batch", json={"messages": wanted})
    assert answer.status_code == 202, answer.text
    return [one["message"] for one in answer.json()["results"]]


async def _bury(database: Connection, ids: list[str], *, code: str = "NUMBER_NOT_ON_WHATSAPP") -> None:
    """Make these messages dead, with dead letters, as a send that is refused for good does."""
    error = {"code": code, "detail": "no", "retryable": False}
    await database.execute(
        "SELECT message_move_v1(id, 'dlq', NULL, NULL, NULL, $2, NULL) FROM unnest($1::uuid[]) id", ids, error
    )
    pks = [row["job_pk"] for row in await database.fetch("SELECT job_pk FROM messages WHERE id = ANY($1::uuid[])", ids)]
    await ledger.cancel(database, pks=pks)
    await database.execute("UPDATE jobs SET state = 'failed', error = $2 WHERE pk = ANY($1)", pks, error)


async def _begin(database: Connection, ids: list[str]) -> set[str]:
    """Begin the tries of those of these messages that may be sent."""
    begun = await database.fetch(
        "UPDATE messages SET status = 'processing' WHERE id = ANY($1::uuid[]) AND status = 'queued' RETURNING id",
        [UUID(one) for one in ids],
    )
    return {str(row["id"]) for row in begun}


async def _statuses(database: Connection) -> dict[str, int]:
    rows = await database.fetch("SELECT status, count(*) AS messages FROM messages GROUP BY status")
    return {row["status"]: row["messages"] for row in rows}


async def test_a_campaign_is_stopped_by_one_call(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await _accept(api, connection, 30, metadata={"campaign": "wrong"})
    kept = await _accept(api, connection, 2, metadata={"campaign": "right"})
    body = {"filter": {"connection_id": connection["id"], "metadata": {"campaign": "wrong"}}}

    counted = await api.post("/messages/cancel", json={**body, "dry_run": True})
    stopped = await api.post("/messages/cancel", json=body)
    again = await api.post("/messages/cancel", json=body)

    assert [one.status_code for one in (counted, stopped, again)] == [202, 202, 202]
    assert counted.json() == {"count": 30, "dry_run": True, "complete": True}
    assert stopped.json() == {"count": 30, "dry_run": False, "complete": True}
    assert again.json()["count"] == 0
    assert await _statuses(database) == {"canceled": 30, "queued": 2}
    living = await database.fetch("SELECT job_key FROM jobs WHERE name = 'send-message' AND finished_at IS NULL")
    assert {row["job_key"] for row in living} == {f"msg-send-{one['id']}" for one in kept}
    pending = await database.fetchval("SELECT pending FROM job_groups WHERE grp = $1 AND queue = 4", connection["id"])
    assert pending == 2


async def test_cancelled_together_they_look_like_cancelled_one_by_one(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await api.patch(f"/connections/{connection['id']}", json={"webhook_url": "https://192.0.2.1/hook"})
    one, other = await _accept(api, connection, 2)
    await api.post(f"/messages/{one['id']}/cancel")

    answer = await api.post("/messages/cancel", json={"filter": {"jid": other["jid"]}})

    assert answer.json()["count"] == 1
    assert _alike(await _all_about(database, one)) == _alike(await _all_about(database, other))
    fan_outs = await database.fetchval(
        "SELECT count(*) FROM jobs WHERE job_key = $1", f"webhook-fanout-{connection['id']}"
    )
    assert fan_outs == 1


async def test_retried_together_they_look_like_retried_one_by_one(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    one, other = await _accept(api, connection, 2)
    await _bury(database, [one["id"], other["id"]])
    await api.post(f"/messages/{one['id']}/retry")

    answer = await api.post("/messages/retry", json={"filter": {"jid": other["jid"]}})

    assert answer.json() == {"count": 1, "dry_run": False, "complete": True}
    assert _alike(await _all_about(database, one)) == _alike(await _all_about(database, other))
    assert (await api.get("/queues/message:send")).json()["dlq"] == 0
    assert (await api.get(f"/jobs/msg-retry-{other['id']}-1")).json()["state"] == "waiting"


async def _all_about(database: Connection, message: dict[str, Any]) -> dict[str, Any]:
    """Its row, history, events and jobs, without its own names."""
    queries = {
        "message": "SELECT to_jsonb(m) AS about FROM messages m WHERE id = $1",
        "history": "SELECT to_jsonb(t) AS about FROM message_transitions t WHERE message_id = $1 ORDER BY id",
        "events": "SELECT to_jsonb(e) AS about FROM events e WHERE message_id = $1 ORDER BY position",
        "jobs": "SELECT to_jsonb(j) AS about FROM jobs j WHERE data ->> 'messageDbId' = $1::uuid::text ORDER BY pk",
    }
    rows = {name: await database.fetch(query, UUID(message["id"])) for name, query in queries.items()}
    text = json.dumps({name: [row["about"] for row in found] for name, found in rows.items()})
    for name in ("id", "jid", "phone"):
        text = text.replace(message[name], f"<{name}>")
    about: dict[str, Any] = json.loads(text)
    return about


def _alike(about: Any) -> Any:
    """The same without what differs by nature: times, numbers of rows, hashes."""
    own = {"pk", "job_pk", "position", "body_hash", "id"}
    if isinstance(about, dict):
        return {
            name: bool(value) if name in own or name.endswith("_at") or name == "at" else _alike(value)
            for name, value in about.items()
        }
    return [_alike(one) for one in about] if isinstance(about, list) else about


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        ({"status": "scheduled"}, 1),
        ({"status": "queued"}, 3),
        ({"status": "failed"}, 1),
        ({"error_code": "RATE_OVERLIMIT"}, 1),
        ({"metadata": {"a": {"b": 1}}}, 1),
        ({"created_after": "2999-01-01T00:00:00Z"}, 0),
        ({**ALL, "connection_id": None}, 5),
        ({**ALL, "status": "queued", "metadata": {"a": {}}}, 1),
    ],
)
async def test_a_filter_means_what_it_says(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, filter_: dict[str, Any], count: int
) -> None:
    await _accept(api, connection, 1, metadata={"a": {"b": 1, "c": 2}})
    await _accept(api, connection, 1, send_at="2900-01-01T00:00:00Z")
    [due] = await _accept(api, connection, 1, send_at="2900-01-02T00:00:00Z")
    [failed, _] = await _accept(api, connection, 2)
    await database.execute("UPDATE messages SET send_at = now() WHERE id = $1", UUID(due["id"]))
    error = {"code": "RATE_OVERLIMIT", "detail": "slow", "retryable": True}
    await database.execute("SELECT message_move_v1($1, 'failed', NULL, NULL, NULL, $2, 5)", UUID(failed["id"]), error)

    counted = await api.post("/messages/cancel", json={"filter": filter_, "dry_run": True})
    done = await api.post("/messages/cancel", json={"filter": filter_})

    assert (counted.json()["count"], done.json()["count"]) == (count, count)
    assert (await _statuses(database)).get("canceled", 0) == count


@pytest.mark.parametrize("call", ["cancel", "retry"])
@pytest.mark.parametrize(
    "body",
    [
        *({}, {"filter": {}}, {"filter": None}, {"filter": {"connection_id": None}}, {"filter": {"metadata": {}}}),
        *({"filter": {"colour": "red"}}, {"filter": ALL, "all": True}, {"filter": {"status": "sent"}}),
        *({"filter": {"created_before": 5}}, {"filter": ALL, "dry_run": "no"}, {"filter": {"jid": "x"}}),
    ],
)
async def test_a_filter_that_means_nothing_or_too_much_is_refused(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, call: str, body: dict[str, Any]
) -> None:
    await _accept(api, connection, 1)

    answer = await api.post(f"/messages/{call}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")
    assert await _statuses(database) == {"queued": 1}


async def test_an_empty_filter_is_told_how_to_mean_all(api: httpx.AsyncClient) -> None:
    errors = (await api.post("/messages/cancel", json={"filter": {}})).json()["errors"]

    assert errors[0]["pointer"] == "/filter"
    assert "created_before" in errors[0]["detail"]


async def test_a_key_of_some_connections_touches_only_theirs(
    api: httpx.AsyncClient, connection: dict[str, Any], settings: Settings, database: Connection
) -> None:
    other = (await api.post("/connections", json={"label": "Other"})).json()["connection"]
    await _accept(api, connection, 2)
    [theirs] = await _accept(api, other, 1)
    made = await api.post(
        "/api-keys", json={"name": "k", "scopes": ["messages:write"], "connection_ids": [connection["id"]]}
    )
    async with running(settings, key=made.json()["key"]) as limited:
        foreign = await limited.post("/messages/cancel", json={"filter": {"connection_id": other["id"]}})
        absent = await limited.post("/messages/cancel", json={"filter": {"connection_id": str(uuid4())}})
        own = await limited.post("/messages/cancel", json={"filter": ALL})

    assert [(one.status_code, one.json()["code"]) for one in (foreign, absent)] == [(404, "NOT_FOUND")] * 2
    assert own.json()["count"] == 2
    assert (await api.get(f"/messages/{theirs['id']}")).json()["status"] == "queued"


async def test_a_message_that_is_being_sent_is_left(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, queues: Queues
) -> None:
    await database.execute("UPDATE job_groups SET reasons = '{}'")
    await _accept(api, connection, 3)
    async with queues.pool.acquire() as worker:
        [claimed] = await ledger.claim(worker, slots={QueueName.MESSAGE_SEND: 1}, worker="w")
    await _begin(database, [claimed.data["messageDbId"]])

    answer = await api.post("/messages/cancel", json={"filter": ALL})

    assert answer.json()["count"] == 2
    assert (await api.get(f"/messages/{claimed.data['messageDbId']}")).json()["status"] == "processing"
    assert (await api.get(f"/jobs/{claimed.job_id}")).json()["state"] == "active"


async def test_a_retry_leaves_what_may_have_left_unless_it_is_named(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    dead, doubtful = await _accept(api, connection, 2)
    await _bury(database, [dead["id"]])
    await database.execute("UPDATE messages SET status = 'unknown' WHERE id = $1", UUID(doubtful["id"]))

    by_default = await api.post("/messages/retry", json={"filter": ALL})
    by_name = await api.post("/messages/retry", json={"filter": {"status": "unknown"}})

    assert (by_default.json()["count"], by_name.json()["count"]) == (1, 1)
    assert await _statuses(database) == {"queued": 2}
    living = await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'send-message' AND finished_at IS NULL")
    assert living == 2


async def test_a_retry_leaves_messages_of_a_connection_that_refuses_sends(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    [dead] = await _accept(api, connection, 1)
    await _bury(database, [dead["id"]])
    await database.execute("UPDATE connections SET status = 'closed'")

    assert (await api.post("/messages/retry", json={"filter": ALL})).json()["count"] == 0


async def test_a_call_that_runs_out_of_time_says_so_and_goes_on_when_asked_again(
    api: httpx.AsyncClient, connection: dict[str, Any], queues: Queues, database: Connection
) -> None:
    await _accept(api, connection, 3)
    meant = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=CANCELABLE)

    first = await bulk_sends.cancel(queues, meant, budget_s=0)
    second = await bulk_sends.cancel(queues, meant)

    assert (first.count, first.complete) == (0, False)
    assert (second.count, second.complete) == (3, True)
    assert await _statuses(database) == {MessageStatus.CANCELED: 3}


async def test_a_campaign_can_be_stopped_while_it_is_being_sent(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, queues: Queues
) -> None:
    """Whoever is faster, every message is either cancelled or left to the worker that began its try."""
    await ledger.set_group(database, QueueName.MESSAGE_SEND, connection["id"], cap=5, rate_per_minute=0)
    await database.execute("UPDATE job_groups SET reasons = '{}'")
    await _accept(api, connection, 1000)
    await _accept(api, connection, 1000)
    begun: set[str] = set()
    stop = asyncio.Event()

    async def work() -> None:
        async with queues.pool.acquire() as worker:
            while not stop.is_set():
                jobs = await ledger.claim(worker, slots={QueueName.MESSAGE_SEND: 5}, worker="w")
                begun.update(await _begin(worker, [job.data["messageDbId"] for job in jobs]))
                ends = [Finish(pk=j.pk, fence=j.fence, queue=j.queue, kind=FinishKind.DONE) for j in jobs]
                await ledger.finish(worker, ends)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        answer = await api.post("/messages/cancel", json={"filter": ALL})
        stop.set()

    canceled = {str(row["id"]) for row in await database.fetch("SELECT id FROM messages WHERE status = 'canceled'")}
    assert answer.json()["count"] == len(canceled) > 0
    assert canceled.isdisjoint(begun)
    assert len(canceled) + len(begun) == 2000
    counted = await database.fetchrow(
        "SELECT pending, busy FROM job_groups WHERE grp = $1 AND queue = 4", connection["id"]
    )
    assert tuple(counted or ()) == (0, 0)


@pytest.mark.parametrize(("dies_in", "canceled", "jobs_left"), [("messages", 2, 3), ("jobs", 4, 3)])
async def test_what_a_crash_leaves_is_whole(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    queues: Queues,
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
    dies_in: str,
    canceled: int,
    jobs_left: int,
) -> None:
    """Of a message that is not cancelled the job lives; jobs of cancelled ones that are left end by themselves."""
    await _accept(api, connection, 5)
    of_messages, of_jobs = message_bulk.cancel, ledger.cancel
    calls = {"messages": 0, "jobs": 0}

    def die(step: str) -> None:
        calls[step] += 1
        if step == dies_in and calls[step] == 2:
            raise ConnectionResetError("the process is gone")

    async def take_back(*arguments: Any) -> Any:
        die("messages")
        return await of_messages(*arguments)

    async def end_jobs(*arguments: Any, **named: Any) -> Any:
        die("jobs")
        return await of_jobs(*arguments, **named)

    meant = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=CANCELABLE)
    with monkeypatch.context() as patched:
        patched.setattr(bulk_sends, "BATCH", 2)
        patched.setattr(bulk_sends, "AT_ONCE", 1)
        patched.setattr(message_bulk, "cancel", take_back)
        patched.setattr(ledger, "cancel", end_jobs)
        with pytest.raises(ConnectionResetError):
            await bulk_sends.cancel(queues, meant)

    assert await _statuses(database) == {"canceled": canceled, "queued": 5 - canceled}
    told = "SELECT count(*) FROM messages m JOIN events e ON e.message_id = m.id AND e.type = 'message.canceled'"
    noted = "SELECT count(*) FROM message_transitions WHERE to_status = 'canceled'"
    assert (await database.fetchval(told), await database.fetchval(noted)) == (canceled, canceled)
    living = await database.fetch(
        "SELECT m.status FROM messages m JOIN jobs j ON j.pk = m.job_pk WHERE j.finished_at IS NULL"
    )
    statuses = [row["status"] for row in living]
    assert (len(statuses), statuses.count("queued")) == (jobs_left, 5 - canceled)
    assert (await bulk_sends.cancel(queues, meant)).count == 5 - canceled


async def test_a_chat_is_cancelled_whole_before_the_next(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    queues: Queues,
    database: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise each batch would make the next message of every chat ready, only for the batch after it to end it."""
    for _ in range(3):
        await _accept(api, connection, 2)
    monkeypatch.setattr(bulk_sends, "BATCH", 3)
    batches: list[set[str]] = []

    async def note(_connection: Any, ids: list[UUID], _statuses: Any) -> tuple[int, set[Any], list[int]]:
        rows = await database.fetch("SELECT jid FROM messages WHERE id = ANY($1::uuid[])", ids)
        batches.append({row["jid"] for row in rows})
        return len(ids), set(), []

    monkeypatch.setattr(bulk_sends, "AT_ONCE", 1)
    monkeypatch.setattr(message_bulk, "cancel", note)
    meant = Meant(tenant_id=DEFAULT_TENANT, allowed=None, wanted=MessageFilter(), statuses=CANCELABLE)

    assert (await bulk_sends.cancel(queues, meant)).count == 6
    assert [len(chats) for chats in batches] == [1, 1]
