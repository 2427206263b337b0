"""Sending over HTTP: accepted once with its job, repeated safely, refused whole, in batches and with a wait."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db.pool import Connection
from tests.integration.api.conftest import Ledger

BODY: dict[str, Any] = {"to": "5511987654321", "type": "text", "payload": {"text": "Olá 👋"}}


@pytest.fixture
def path(connection: dict[str, Any]) -> str:
    return f"/connections/{connection['id']}/send"


async def test_a_message_comes_with_its_job(api: httpx.AsyncClient, path: str, database: Connection) -> None:
    answer = await api.post(path, json={**BODY, "message_id": "m-1", "metadata": {"order": 7}})

    assert answer.status_code == 202, answer.text
    body = answer.json()
    message = body["message"]
    assert (message["message_id"], message["status"], message["attempts"]) == ("m-1", "queued", 0)
    assert (message["jid"], message["phone"]) == ("5511987654321@s.whatsapp.net", "5511987654321")
    assert (message["payload"], message["metadata"]) == ({"text": "Olá 👋"}, {"order": 7})
    assert body["job"]["id"] == f"msg-send-{message['id']}"
    assert body["deduplicated"] is False
    assert await database.fetchval("SELECT count(*) FROM events WHERE type = 'message.queued'") == 1
    assert (await api.get(f"/messages/{message['id']}")).json()["id"] == message["id"]
    assert [one["to"] for one in (await api.get(f"/messages/{message['id']}/timeline")).json()["data"]] == ["queued"]


async def test_a_message_of_an_offline_connection_says_why_it_waits(api: httpx.AsyncClient, path: str) -> None:
    message = (await api.post(path, json=BODY)).json()["message"]

    assert (await api.get(f"/messages/{message['id']}")).json()["parked_reason"] == "connection_offline"


async def test_one_id_is_one_message_however_many_ask_at_once(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    answers = await asyncio.gather(*(api.post(path, json={**BODY, "message_id": "m"}) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["message"]["id"] for answer in answers}) == 1
    assert [answer.json()["deduplicated"] for answer in answers].count(False) == 1
    assert await database.fetchval("SELECT count(*) FROM messages") == 1
    assert await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'send-message'") == 1


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
async def test_a_repeat_comes_with_the_job_as_it_is_now(
    api: httpx.AsyncClient, path: str, database: Connection, state: str
) -> None:
    first = (await api.post(path, json={**BODY, "message_id": "m"})).json()["job"]
    await database.execute(
        "UPDATE jobs SET state = $1, dedupe = NULL, finished_at = now() WHERE job_key = $2", state, first["id"]
    )

    again = (await api.post(path, json={**BODY, "message_id": "m"})).json()["job"]
    assert again == {**first, "state": state, "deduplicated": True}

    await database.execute("DELETE FROM jobs WHERE job_key = $1", first["id"])
    assert (await api.post(path, json={**BODY, "message_id": "m"})).json()["job"] is None


async def test_one_key_is_one_message_however_many_ask_at_once(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    headers = {"Idempotency-Key": "k"}

    answers = await asyncio.gather(*(api.post(path, json=BODY, headers=headers) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["message"]["id"] for answer in answers}) == 1
    assert len({answer.json()["job"]["id"] for answer in answers}) == 1
    assert await database.fetchval("SELECT count(*) FROM messages") == 1


@pytest.mark.parametrize("by", ["message_id", "key"])
async def test_the_same_name_for_another_body_is_a_conflict(
    api: httpx.AsyncClient, path: str, ledger: Ledger, by: str
) -> None:
    named = {"message_id": "m"} if by == "message_id" else {}
    headers = {"Idempotency-Key": "k"} if by == "key" else {}
    await api.post(path, json={**BODY, **named}, headers=headers)
    before = await ledger.rows()

    answer = await api.post(path, json={**BODY, **named, "payload": {"text": "other"}}, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await ledger.rows() == before


async def test_a_refused_request_does_not_use_up_its_key(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    headers = {"Idempotency-Key": "k"}
    await database.execute("UPDATE connections SET status = 'closed'")
    assert (await api.post(path, json=BODY, headers=headers)).status_code == 409

    await database.execute("UPDATE connections SET status = 'connected'")

    assert (await api.post(path, json=BODY, headers=headers)).status_code == 202


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ç"])
async def test_a_key_that_is_none_is_refused(api: httpx.AsyncClient, path: str, ledger: Ledger, key: str) -> None:
    before = await ledger.rows()

    answer = await api.post(path, json=BODY, headers=httpx.Headers({"Idempotency-Key": key}, encoding="utf-8"))

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key")
    assert await ledger.rows() == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"to": "abc"}, "/to"),
        ({"to": None}, "/to"),
        ({"to": 5511987654321}, "/to"),
        ({"to": "status@broadcast"}, "/to"),
        ({"type": "telegram"}, ""),
        ({"type": "image", "payload": {"url": "https://example.com/a.jpg", "ptt": True}}, "/payload"),
        ({"type": "text", "payload": {"text": "a", "preview": True}}, "/payload/preview"),
        ({"type": "image", "payload": {}}, "/payload"),
        ({"payload": {}}, "/payload/text"),
        ({"payload": {"text": ""}}, "/payload/text"),
        ({"payload": {"text": "x" * 65_537}}, "/payload/text"),
        ({"payload": {"text": "a", "text2": "b"}}, "/payload/text2"),
        ({"text": "a"}, "/text"),
        ({"message_id": ""}, "/message_id"),
        ({"priority": 10}, "/priority"),
        ({"priority": "1"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"send_at": "tomorrow"}, "/send_at"),
        ({"send_at": "2030-01-01T00:00:00"}, "/send_at"),
        ({"send_at": 1_900_000_000}, "/send_at"),
        ({"ttl_seconds": -1}, "/ttl_seconds"),
        ({"order": "any"}, "/order"),
        ({"mentions": ["x"]}, "/mentions/0"),
        ({"if_offline": "wait"}, "/if_offline"),
        ({"on_unknown": "guess"}, "/on_unknown"),
        ({"metadata": "x"}, "/metadata"),
    ],
)
async def test_a_wrong_field_is_named_and_changes_nothing(
    api: httpx.AsyncClient, path: str, ledger: Ledger, change: dict[str, Any], pointer: str
) -> None:
    before = await ledger.rows()

    answer = await api.post(path, json={**BODY, **change})

    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR"), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await ledger.rows() == before


@pytest.mark.parametrize(
    ("status", "fields", "code"),
    [
        ("closed", {}, "INVALID_STATE"),
        ("failed", {}, "INVALID_STATE"),
        ("disconnected", {"if_offline": "reject"}, "CONNECTION_OFFLINE"),
        ("initializing", {"if_offline": "reject"}, "CONNECTION_OFFLINE"),
        ("logged_out", {"if_offline": "reject"}, "CONNECTION_LOGGED_OUT"),
        ("banned", {"if_offline": "reject"}, "CONNECTION_BANNED"),
        ("replaced", {"if_offline": "reject"}, "CONNECTION_REPLACED"),
    ],
)
async def test_a_connection_that_takes_no_sends_says_so(
    api: httpx.AsyncClient,
    path: str,
    database: Connection,
    ledger: Ledger,
    status: str,
    fields: dict[str, str],
    code: str,
) -> None:
    await database.execute("UPDATE connections SET status = $1", status)
    before = await ledger.rows()

    answer = await api.post(path, json={**BODY, **fields})

    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert await ledger.rows() == before


async def test_what_was_accepted_is_that_message_even_when_the_connection_has_closed(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    first = await api.post(path, json={**BODY, "message_id": "m"})
    await database.execute("UPDATE connections SET status = 'closed'")

    again = await api.post(path, json={**BODY, "message_id": "m"})

    assert (again.status_code, again.json()["message"]["id"]) == (202, first.json()["message"]["id"])


async def test_each_message_of_a_batch_stands_for_itself(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    await api.post(path, json={**BODY, "message_id": "old"})
    messages = [
        {**BODY, "message_id": "a"},
        {**BODY, "to": "abc"},
        {**BODY, "type": "telegram"},
        {**BODY, "message_id": "old", "payload": {"text": "other"}},
        {**BODY, "message_id": "old"},
        {},
    ]

    answer = await api.post(f"{path}/batch", json={"messages": messages})

    assert answer.status_code == 202, answer.text
    results = answer.json()["results"]
    assert [one["index"] for one in results] == list(range(6))
    assert [one["message"]["message_id"] if "message" in one else one["error"]["code"] for one in results] == [
        *("a", "VALIDATION_ERROR", "VALIDATION_ERROR", "IDEMPOTENCY_CONFLICT", "old", "VALIDATION_ERROR")
    ]
    assert results[1]["error"]["errors"][0]["pointer"] == "/messages/1/to"
    assert results[2]["error"]["errors"][0]["pointer"] == "/messages/2"
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


async def test_a_batch_is_repeatable_by_its_key(api: httpx.AsyncClient, path: str, database: Connection) -> None:
    body = {"messages": [BODY, {**BODY, "to": "abc"}, BODY]}
    headers = {"Idempotency-Key": "k"}

    first, second = [(await api.post(f"{path}/batch", json=body, headers=headers)).json()["results"] for _ in range(2)]

    assert [one.get("message", {}).get("id") for one in first] == [one.get("message", {}).get("id") for one in second]
    assert first[1] == second[1]
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_is_bounded(api: httpx.AsyncClient, path: str, ledger: Ledger, count: int) -> None:
    before = await ledger.rows()

    answer = await api.post(f"{path}/batch", json={"messages": [BODY] * count})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/messages")
    assert await ledger.rows() == before


async def test_a_wait_ends_when_the_message_settles(api: httpx.AsyncClient, path: str, database: Connection) -> None:
    async def settle() -> None:
        while await database.execute("UPDATE messages SET status = 'sent'") != "UPDATE 1":  # noqa: ASYNC110 - polls SQL
            await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.post(path, json=BODY, headers={"Prefer": "respond-async, wait=20"}))
        tasks.create_task(settle())

    answer = waiting.result()
    assert (answer.status_code, answer.json()["message"]["status"]) == (200, "sent")
    assert answer.headers["preference-applied"] == "wait=20"


@pytest.mark.parametrize(("prefer", "applied"), [("wait=0", "wait=0"), ("wait=x", None), ("return=minimal", None)])
async def test_a_wait_that_ends_first_is_a_202(api: httpx.AsyncClient, path: str, prefer: str, applied: str) -> None:
    answer = await api.post(path, json=BODY, headers={"Prefer": prefer})

    assert (answer.status_code, answer.headers.get("preference-applied")) == (202, applied)


async def test_messages_are_listed_and_narrowed(api: httpx.AsyncClient, path: str) -> None:
    made = [
        (await api.post(path, json={**BODY, "to": to})).json()["message"]["id"]
        for to in ("5511987654321", "16505550100", "5511987654321")
    ]
    listed = path.replace("/send", "/messages")

    first = (await api.get(f"{listed}?limit=2")).json()
    second = (await api.get(listed, params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert len((await api.get(f"{listed}?jid=%2B1 650 555-0100")).json()["data"]) == 1
    assert len((await api.get(f"{listed}?status=queued&type=text&direction=outbound")).json()["data"]) == 3
    assert (await api.get(f"{listed}?direction=inbound")).json()["data"] == []
    assert (await api.get(f"{listed}?jid=x")).json()["errors"][0]["pointer"] == "?jid"


async def test_deleting_a_connection_cancels_what_waits(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]

    assert (await api.delete(path.removesuffix("/send"))).status_code == 202

    assert await database.fetchval("SELECT status FROM messages WHERE id = $1", made) == "canceled"
    assert await database.fetchval("SELECT state FROM jobs WHERE name = 'send-message'") == "cancelled"


async def test_a_connection_of_another_is_not_sent_through(api: httpx.AsyncClient, ledger: Ledger) -> None:
    before = await ledger.rows()

    answers = [
        await api.post(f"/connections/{uuid4()}/send", json=BODY),
        await api.post(f"/connections/{uuid4()}/send/batch", json={"messages": [BODY]}),
        await api.get(f"/messages/{uuid4()}"),
        await api.get(f"/messages/{uuid4()}/timeline"),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert await ledger.rows() == before


async def test_taking_out_a_message_s_job_cancels_the_message(api: httpx.AsyncClient, path: str) -> None:
    message = (await api.post(path, json=BODY)).json()["message"]

    assert (await api.delete(f"/jobs/msg-send-{message['id']}")).status_code == 202

    assert (await api.get(f"/messages/{message['id']}")).json()["status"] == "canceled"


async def _end(database: Connection, message_id: str, status: str) -> None:
    """Let a message and its job end, as the runner would."""
    await database.execute("UPDATE messages SET status = $2 WHERE id = $1", message_id, status)
    await database.execute(
        "UPDATE jobs SET state = 'failed', dedupe = NULL, finished_at = now(), error = $1", {"code": "BOOM"}
    )
    await database.execute("UPDATE job_groups SET pending = 0")


async def test_a_dead_message_is_retried_after_its_job_was_cleaned_up(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]
    await _end(database, made, "dlq")
    await database.execute("DELETE FROM jobs")

    answer = await api.post(f"/messages/{made}/retry")

    assert answer.status_code == 202, answer.text
    assert (answer.json()["message"]["status"], answer.json()["job"]["id"]) == ("queued", f"msg-retry-{made}-1")


@pytest.mark.parametrize("by", ["job", "queue"])
async def test_a_dead_letter_of_a_message_retries_the_message(
    api: httpx.AsyncClient, path: str, database: Connection, by: str
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]
    await _end(database, made, "dlq")

    if by == "job":
        answer = await api.post(f"/jobs/msg-send-{made}/retry")
        assert (answer.status_code, answer.json()["id"]) == (202, f"msg-retry-{made}-1")
    else:
        answer = await api.post("/queues/message:send/retry-failed", json={})
        assert (answer.status_code, answer.json()["count"]) == (202, 1)

    assert (await api.get(f"/messages/{made}")).json()["status"] == "queued"
    assert (await api.get("/queues/message:send")).json()["dlq"] == 0


async def test_a_dead_letter_whose_message_has_left_stays_dead(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]
    await _end(database, made, "delivered")

    assert (await api.post("/queues/message:send/retry-failed", json={})).json()["count"] == 0
    assert (await api.post(f"/jobs/msg-send-{made}/retry")).json()["code"] == "INVALID_STATE"
    assert (await api.get(f"/messages/{made}")).json()["status"] == "delivered"


async def test_a_waiting_message_is_taken_back_once_and_for_all(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]

    first, second = [await api.post(f"/messages/{made}/cancel") for _ in range(2)]

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["message"]["status"] == "canceled"
    assert await database.fetchval("SELECT state FROM jobs WHERE name = 'send-message'") == "cancelled"


@pytest.mark.parametrize(
    ("status", "call", "body"),
    [
        ("queued", "retry", None),
        ("delivered", "retry", None),
        ("sent", "cancel", None),
        ("processing", "cancel", None),
        ("queued", "resolve", {"outcome": "sent"}),
    ],
)
async def test_a_status_that_forbids_it_is_a_conflict(
    api: httpx.AsyncClient, path: str, database: Connection, status: str, call: str, body: dict[str, str] | None
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]
    await database.execute("UPDATE messages SET status = $1", status)

    answer = await api.post(f"/messages/{made}/{call}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_STATE")
    assert (await api.get(f"/messages/{made}")).json()["status"] == status
    assert await database.fetchval("SELECT state FROM jobs WHERE name = 'send-message'") == "waiting"


@pytest.mark.parametrize(("outcome", "status"), [("sent", "sent"), ("not_sent", "dlq")])
async def test_a_message_in_doubt_is_settled_by_a_person_s_word(
    api: httpx.AsyncClient, path: str, database: Connection, outcome: str, status: str
) -> None:
    made = (await api.post(path, json=BODY)).json()["message"]["id"]
    await database.execute("UPDATE messages SET status = 'unknown', unknown_at = now()")

    answer = await api.post(f"/messages/{made}/resolve", json={"outcome": outcome})

    assert (answer.status_code, answer.json()["message"]["status"]) == (202, status)
    assert (await api.post(f"/messages/{made}/resolve", json={"outcome": "maybe"})).status_code == 422


@pytest.mark.parametrize("call", ["retry", "cancel", "resolve"])
async def test_a_message_of_nobody_is_not_found(api: httpx.AsyncClient, call: str) -> None:
    answer = await api.post(f"/messages/{uuid4()}/{call}", json={"outcome": "sent"})

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_a_message_expires_by_its_own_time_or_the_service_s(api: httpx.AsyncClient, path: str) -> None:
    by_setting = (await api.post(path, json=BODY)).json()["message"]
    never = (await api.post(path, json={**BODY, "ttl_seconds": 0})).json()["message"]
    later = (await api.post(path, json={**BODY, "send_at": "2999-01-01T00:00:00Z", "ttl_seconds": 60})).json()[
        "message"
    ]

    assert by_setting["expires_at"] is not None
    assert never["expires_at"] is None
    assert (later["status"], later["send_at"]) == ("scheduled", "2999-01-01T00:00:00.000Z")
    assert later["expires_at"] == "2999-01-01T00:01:00.000Z"
