"""Sends that come at one moment share a transaction: nobody pays for a neighbour or waits for another's lock."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.db import idempotency
from shared.db.idempotency import KeyedRequest
from shared.db.pool import Connection, connect
from shared.domain.ids import DEFAULT_TENANT
from shared.settings import Settings
from tests.integration.api.conftest import Ledger, running
from tests.integration.api.test_outage import relayed

BODY: dict[str, Any] = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
_POISON = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.payload->>'text' = 'poison' THEN RAISE EXCEPTION 'poison'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER refuse_poison BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse_poison();
"""


@pytest.fixture
def path(connection: dict[str, Any]) -> str:
    return f"/connections/{connection['id']}/send"


@pytest.fixture
async def other(api: httpx.AsyncClient) -> str:
    """The path of another connection's sends."""
    made = await api.post("/connections", json={"label": "Bank"})
    return f"/connections/{made.json()['connection']['id']}/send"


async def test_sends_of_one_moment_share_a_commit(
    api: httpx.AsyncClient, path: str, other: str, database: Connection
) -> None:
    answers = await asyncio.gather(*(api.post(one, json=BODY) for one in [path, other] * 10))

    assert {answer.status_code for answer in answers} == {202}
    assert await database.fetchval("SELECT count(DISTINCT xmin::text) FROM messages") < 20
    assert await database.fetchval("SELECT count(*) FROM messages m JOIN jobs j ON j.pk = m.job_pk") == 20
    assert await database.fetchval("SELECT count(DISTINCT message_id) FROM events WHERE type = 'message.queued'") == 20
    assert await database.fetchval("SELECT count(DISTINCT message_id) FROM message_transitions") == 20


async def test_a_message_that_breaks_the_transaction_spoils_no_neighbour(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    await database.execute(_POISON)
    bodies = [{**BODY, "payload": {"text": text}} for text in ("a", "b", "poison", "c", "d")]

    answers = await asyncio.gather(*(api.post(path, json=body) for body in bodies))

    assert [answer.status_code for answer in answers] == [202, 202, 500, 202, 202]
    assert await database.fetchval("SELECT count(*) FROM messages") == 4
    assert await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'send-message'") == 4


async def test_requests_that_are_refused_leave_their_neighbours_and_keys_alone(
    api: httpx.AsyncClient, path: str, other: str, database: Connection
) -> None:
    await database.execute("UPDATE connections SET status = 'closed' WHERE id = $1", UUID(other.split("/")[2]))
    nobody = f"/connections/{UUID(int=7)}/send"

    answers = await asyncio.gather(
        *(api.post(one, json=BODY, headers={"Idempotency-Key": one}) for one in (path, other, nobody))
    )

    assert [answer.status_code for answer in answers] == [202, 409, 404]
    assert await database.fetchval("SELECT array_agg(scope) FROM idempotency_keys") == [f"POST {path}"]


async def test_one_id_for_two_bodies_at_once_is_one_message_and_one_conflict(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    bodies = [{**BODY, "message_id": "m", "payload": {"text": text}} for text in ("a", "b")]

    answers = await asyncio.gather(*(api.post(path, json=body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [202, 409]
    assert await database.fetchval("SELECT count(*) FROM messages") == 1


async def test_one_id_at_two_connections_is_two_messages(
    api: httpx.AsyncClient, path: str, other: str, database: Connection
) -> None:
    answers = await asyncio.gather(*(api.post(one, json={**BODY, "message_id": "m"}) for one in (path, other)))

    assert [answer.json()["deduplicated"] for answer in answers] == [False, False]
    assert await database.fetchval("SELECT count(*) FROM messages") == 2


async def test_keys_that_come_at_one_moment_are_each_their_own(
    api: httpx.AsyncClient, path: str, other: str, database: Connection
) -> None:
    asked = [(one, key) for one in (path, other) for key in ("k", "l", "k", "l")]

    answers = await asyncio.gather(*(api.post(one, json=BODY, headers={"Idempotency-Key": key}) for one, key in asked))

    made = {(one, key): answer.json()["message"]["id"] for (one, key), answer in zip(asked, answers, strict=True)}
    assert {answer.status_code for answer in answers} == {202}
    assert len(set(made.values())) == 4
    assert await database.fetchval("SELECT count(*) FROM messages") == 4


@pytest.mark.parametrize("table", ["connections", "job_groups"])
async def test_who_is_held_up_holds_up_no_other_connection(
    api: httpx.AsyncClient, path: str, other: str, database: Connection, table: str
) -> None:
    name = "id" if table == "connections" else "grp"
    async with asyncio.timeout(30), asyncio.TaskGroup() as group, database.transaction():
        await database.execute(f"SELECT 1 FROM {table} WHERE {name}::text = $1 FOR UPDATE", path.split("/")[2])
        held = [group.create_task(api.post(path, json=BODY)) for _ in range(3)]
        free = await asyncio.gather(*(api.post(other, json=BODY) for _ in range(10)))
        assert not any(task.done() for task in held)

    assert {answer.status_code for answer in free} == {202}
    assert {task.result().status_code for task in held} == {202}


async def test_an_event_or_a_lease_of_the_connection_holds_no_send_up(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    async with asyncio.timeout(30), database.transaction():
        # What the foreign key of an event takes, and what a host's renewal does.
        await database.execute("SELECT 1 FROM connections FOR KEY SHARE")
        await database.execute("UPDATE connections SET updated_at = now()")
        answer = await api.post(path, json=BODY)

    assert answer.status_code == 202


async def test_a_key_that_another_process_works_on_is_waited_for_and_stops_nobody_else(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    first = KeyedRequest(tenant_id=DEFAULT_TENANT, scope=f"POST {path}", key="k", body_hash=b"another")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group, database.transaction():
        await idempotency.begin_all(database, [first], waits=True)
        same = group.create_task(api.post(path, json=BODY, headers={"Idempotency-Key": "k"}))
        # As long as it waits, what others ask goes on.
        others = [await api.post(path, json=BODY, headers={"Idempotency-Key": key}) for key in ("l", "m")]
        assert not same.done()
        await idempotency.finish_all(database, [(first, {"message_id": "none"})])

    assert {answer.status_code for answer in others} == {202}
    assert (same.result().status_code, same.result().json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_a_large_batch_lets_others_pass(
    api: httpx.AsyncClient, path: str, other: str, database: Connection, database_url: str
) -> None:
    async with connect(database_url) as holder, asyncio.TaskGroup() as group, holder.transaction():
        await holder.execute("SELECT 1 FROM job_groups WHERE grp = $1 FOR UPDATE", path.split("/")[2])
        batch = group.create_task(api.post(f"{path}/batch", json={"messages": [BODY] * 1000}))
        singles = [await api.post(other, json=BODY) for _ in range(5)]
        assert not batch.done()

    assert {answer.status_code for answer in singles} == {202}
    assert [("message" in one) for one in batch.result().json()["results"]] == [True] * 1000
    assert await database.fetchval("SELECT count(*) FROM messages") == 1005


_AS_MADE = "SELECT 1"
_ONLINE = "UPDATE connections SET status = 'connected'; UPDATE job_groups SET reasons = '{}';"


@pytest.mark.parametrize(
    ("before", "change", "reason"),
    [
        (_AS_MADE, {}, "connection_offline"),
        (_AS_MADE, {"send_at": "2999-01-01T00:00:00Z"}, "connection_offline"),
        (_AS_MADE, {"mentions": ["5511987654321"], "reply_to": "x", "metadata": {"a": [1]}}, "connection_offline"),
        ("UPDATE job_groups SET reasons = '{quiet_hours,connection_paused}'", {"order": "none"}, "connection_paused"),
        (_ONLINE, {}, None),
        (_ONLINE, {"send_at": "2999-01-01T00:00:00Z"}, None),
        (_ONLINE + "UPDATE queues SET paused = true", {}, "queue_paused"),
        (_ONLINE + "UPDATE job_groups SET tat = now() + interval '1 day'", {}, "rate_limited"),
    ],
)
async def test_the_answer_is_the_message_as_it_is_shown_later(
    api: httpx.AsyncClient, path: str, database: Connection, before: str, change: dict[str, Any], reason: str | None
) -> None:
    await database.execute(before)

    answered = (await api.post(path, json={**BODY, **change})).json()["message"]

    shown = (await api.get(f"/messages/{answered['id']}")).json()
    event = await database.fetchval("SELECT payload FROM events WHERE message_id = $1", UUID(answered["id"]))
    assert answered["parked_reason"] == reason
    assert {name: shown[name] for name in answered} == answered == event


async def test_the_messages_of_a_chat_are_sent_in_the_order_of_their_answers(
    api: httpx.AsyncClient, path: str, database: Connection
) -> None:
    await database.execute("UPDATE connections SET status = 'connected'; UPDATE job_groups SET reasons = '{}'")
    [first, *behind] = [(await api.post(path, json=BODY)).json()["message"] for _ in range(4)]

    assert first["parked_reason"] is None
    assert {one["parked_reason"] for one in behind} == {"behind_earlier_message"}
    placed = await database.fetch(
        "SELECT m.id::text FROM messages m JOIN jobs j ON j.pk = m.job_pk ORDER BY j.position"
    )
    assert [row["id"] for row in placed] == [one["id"] for one in (first, *behind)]


async def test_while_postgres_is_away_nothing_is_accepted_and_nothing_half(
    settings: Settings, database_url: str, ledger: Ledger
) -> None:
    async with (
        relayed(database_url) as (url, relay),
        running(settings.model_copy(update={"database_url": url})) as api,
    ):
        made = await api.post("/connections", json={"label": "a"})
        path = f"/connections/{made.json()['connection']['id']}/send"
        assert (await api.post(path, json=BODY)).status_code == 202
        before = await ledger.rows()
        await relay.down()
        asked = [api.post(path, json=BODY, headers={"Idempotency-Key": str(number)}) for number in range(5)]
        answers = await asyncio.gather(*asked, api.post(f"{path}/batch", json={"messages": [BODY] * 150}))
        during = await ledger.rows()
        await relay.up()
        back = await api.post(path, json=BODY, headers={"Idempotency-Key": "0"})

    assert {(answer.status_code, answer.json()["code"], answer.json()["retryable"]) for answer in answers} == {
        (503, "UNAVAILABLE", True)
    }
    assert during == before
    assert (back.status_code, back.json()["deduplicated"]) == (202, False)


async def test_a_postgres_that_hangs_is_given_up_and_nothing_is_done(
    settings: Settings, database_url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.resources._PATIENCE_S", 0.5)
    async with (
        relayed(database_url) as (url, relay),
        running(settings.model_copy(update={"database_url": url})) as api,
    ):
        made = await api.post("/connections", json={"label": "a"})
        path = f"/connections/{made.json()['connection']['id']}/send"
        before = await ledger.rows()
        relay.freeze()
        answers = await asyncio.gather(*(api.post(path, json=BODY) for _ in range(3)))
        relay.thaw()
        during = await ledger.rows()
        back = await api.post(path, json=BODY)

    assert {answer.status_code for answer in answers} == {503}
    assert during == before
    assert back.status_code == 202
