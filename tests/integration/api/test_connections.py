"""Connections over HTTP: created with their job in one transaction, listed, changed, opened, closed, deleted."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db import api_keys
from shared.db.api_keys import Scope
from shared.db.pool import Connection
from shared.domain.ids import TenantId
from tests.integration.api.conftest import Ledger
from tests.integration.api.test_lock_order import waiting_for_a_lock


async def test_a_new_connection_comes_with_its_opening_job(api: httpx.AsyncClient, database: Connection) -> None:
    answer = await api.post(
        "/connections", json={"label": "Shop", "external_id": "shop-1", "metadata": {"a": [1, None]}}
    )

    assert answer.status_code == 202
    body = answer.json()
    shown = body["connection"]
    assert (shown["label"], shown["external_id"], shown["status"]) == ("Shop", "shop-1", "initializing")
    assert shown["metadata"] == {"a": [1, None]}
    assert body["job"]["id"] == f"session-init-{shown['id']}"
    assert body["deduplicated"] is False
    assert "webhook_secret" not in body
    job = await database.fetchrow("SELECT name, data, grp FROM jobs")
    assert job is not None
    assert (job["name"], job["grp"]) == ("init-session", shown["id"])
    assert job["data"] == {"sessionId": shown["id"], "label": "Shop", "config": {}}
    events = await database.fetch("SELECT type FROM events")
    assert [event["type"] for event in events] == ["session.init_queued"]


async def test_a_made_webhook_secret_is_shown_once(api: httpx.AsyncClient) -> None:
    answer = await api.post("/connections", json={"label": "Shop", "webhook_url": "https://192.0.2.1/hook"})

    body = answer.json()
    assert body["webhook_secret"].startswith("whsec_")
    assert body["connection"]["webhook_url"] == "https://192.0.2.1/hook"
    again = await api.get(f"/connections/{body['connection']['id']}")
    assert body["webhook_secret"] not in again.text


async def test_a_secret_that_was_brought_is_not_shown(api: httpx.AsyncClient) -> None:
    secret = "whsec_" + "QUJD" * 10

    answer = await api.post(
        "/connections", json={"label": "S", "webhook_url": "https://192.0.2.1/", "webhook_secret": secret}
    )

    assert answer.status_code == 202, answer.text
    assert secret not in answer.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/label"),
        ({"label": ""}, "/label"),
        ({"label": " "}, "/label"),
        ({"label": "x" * 101}, "/label"),
        ({"label": 5}, "/label"),
        ({"label": "a", "nickname": "b"}, "/nickname"),
        ({"label": "a", "metadata": []}, "/metadata"),
        ({"label": "a", "metadata": {"a": "x" * 20_000}}, "/metadata"),
        ({"label": "a", "external_id": ""}, "/external_id"),
        ({"label": "a", "pairing": {"method": "sms"}}, "/pairing/method"),
        ({"label": "a", "pairing": {"method": "code", "phone": "abc"}}, "/pairing/phone"),
        ({"label": "a", "pairing": {"method": "code"}}, "/pairing"),
        ({"label": "a", "config": {"send_rate_per_minute": -1}}, "/config/send_rate_per_minute"),
        ({"label": "a", "config": {"send_rate_per_minute": "5"}}, "/config/send_rate_per_minute"),
        ({"label": "a", "config": {"send_weight": 0}}, "/config/send_weight"),
        ({"label": "a", "config": {"own": True}}, "/config/own"),
        ({"label": "a", "config": {"reject_calls": {"enabled": "yes"}}}, "/config/reject_calls/enabled"),
        ({"label": "a", "config": {"proxy": "ftp://10.0.0.1:1"}}, "/config/proxy"),
        ({"label": "a", "webhook_secret": "whsec_x"}, ""),
        ({"label": "a", "webhook_url": "https://192.0.2.1/", "webhook_secret": "short"}, "/webhook_secret"),
        ({"label": "a", "webhook_url": "ftp://example.com"}, "/webhook_url"),
        ([], ""),
    ],
)
async def test_a_wrong_value_is_named_and_changes_nothing(
    api: httpx.AsyncClient, ledger: Ledger, body: object, pointer: str
) -> None:
    before = await ledger.rows()

    answer = await api.post("/connections", json=body)

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await ledger.rows() == before


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://169.254.169.254/latest", "http://localhost:8001/", "http://[::1]/"]
)
async def test_a_webhook_that_points_inside_is_refused_at_the_door(
    api: httpx.AsyncClient, ledger: Ledger, url: str
) -> None:
    before = await ledger.rows()

    answer = await api.post("/connections", json={"label": "a", "webhook_url": url})

    assert (answer.status_code, answer.json()["code"]) == (422, "WEBHOOK_TARGET_FORBIDDEN")
    assert "ZAPHUB_WEBHOOK_ALLOW_NETWORKS" in answer.json()["detail"]
    assert await ledger.rows() == before


async def test_an_external_id_is_given_once(api: httpx.AsyncClient, ledger: Ledger) -> None:
    await api.post("/connections", json={"label": "a", "external_id": "x"})
    before = await ledger.rows()

    answer = await api.post("/connections", json={"label": "b", "external_id": "x"})

    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await ledger.rows() == before


async def test_of_many_at_once_one_gets_the_external_id(api: httpx.AsyncClient, database: Connection) -> None:
    answers = await asyncio.gather(
        *(api.post("/connections", json={"label": "a", "external_id": "x"}) for _ in range(10))
    )

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 9
    assert await database.fetchval("SELECT count(*) FROM connections") == 1


async def test_a_key_makes_creation_repeatable(api: httpx.AsyncClient, database: Connection) -> None:
    headers = {"Idempotency-Key": "create-1"}

    answers = await asyncio.gather(*(api.post("/connections", json={"label": "a"}, headers=headers) for _ in range(10)))
    other = await api.post("/connections", json={"label": "b"}, headers=headers)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["connection"]["id"] for answer in answers}) == 1
    assert await database.fetchval("SELECT count(*) FROM connections") == 1
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_a_repeated_creation_only_says_what_became_of_the_connection(
    api: httpx.AsyncClient, database: Connection, ledger: Ledger
) -> None:
    headers = {"Idempotency-Key": "create-1"}
    made = (await api.post("/connections", json={"label": "a"}, headers=headers)).json()
    path = f"/connections/{made['connection']['id']}"
    # Long ago: its opening has ended, and its owner wants it offline by now.
    await database.execute("UPDATE jobs SET state = 'completed', finished_at = now(), dedupe = NULL")
    await api.post(f"{path}/stop")
    before = await ledger.rows()

    repeated = await api.post("/connections", json={"label": "a"}, headers=headers)
    rows = await ledger.rows()
    await database.execute("DELETE FROM jobs WHERE state = 'completed'")
    cleaned = await api.post("/connections", json={"label": "a"}, headers=headers)
    await api.delete(path)
    deleted = await api.post("/connections", json={"label": "a"}, headers=headers)

    assert repeated.status_code == 202
    assert repeated.json()["connection"]["id"] == made["connection"]["id"]
    assert repeated.json()["job"] == {**made["job"], "state": "completed", "deduplicated": True}
    assert repeated.json()["deduplicated"] is True
    assert rows == before
    assert (cleaned.status_code, cleaned.json().get("job")) == (202, None)
    assert (deleted.status_code, deleted.json()["code"]) == (404, "NOT_FOUND")
    assert await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'init-session'") == 0


async def test_an_external_id_that_another_change_is_just_taking_is_a_conflict(
    api: httpx.AsyncClient, database: Connection, connection: dict[str, Any]
) -> None:
    other = (await api.post("/connections", json={"label": "b"})).json()["connection"]["id"]

    async with asyncio.TaskGroup() as group, database.transaction():
        await database.execute("UPDATE connections SET external_id = 'x' WHERE id = $1", other)
        asked = group.create_task(api.patch(f"/connections/{connection['id']}", json={"external_id": "x"}))
        await waiting_for_a_lock(database)

    answer = asked.result()
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_the_webhook_url_of_another_tenant_s_connection_is_that_tenant_s(
    api: httpx.AsyncClient, database: Connection
) -> None:
    tenant = TenantId(uuid4())
    await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'another')", tenant)
    _, key = await api_keys.create(database, tenant_id=tenant, name="t", scopes=[Scope.ADMIN])
    theirs = {"Authorization": f"Bearer {key}"}
    made = (await api.post("/connections", json={"label": "theirs"}, headers=theirs)).json()["connection"]

    answer = await api.patch(
        f"/connections/{made['id']}", json={"webhook_url": "https://192.0.2.7/hook"}, headers=theirs
    )

    assert answer.json()["webhook_url"] == "https://192.0.2.7/hook"
    assert (await api.get("/webhooks")).json()["data"] == []
    [shown] = (await api.get("/webhooks", headers=theirs)).json()["data"]
    assert shown["connection_id"] == made["id"]


async def test_lists_go_page_by_page_newest_first(api: httpx.AsyncClient) -> None:
    made = [(await api.post("/connections", json={"label": f"c{n}"})).json()["connection"]["id"] for n in range(5)]

    first = (await api.get("/connections", params={"limit": 2})).json()
    second = (await api.get("/connections", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    third = (await api.get("/connections", params={"limit": 2, "cursor": second["next_cursor"]})).json()

    assert [one["id"] for part in (first, second, third) for one in part["data"]] == made[::-1]
    assert third["next_cursor"] is None


async def test_a_list_may_be_narrowed(api: httpx.AsyncClient) -> None:
    await api.post("/connections", json={"label": "a", "external_id": "x"})
    await api.post("/connections", json={"label": "b"})

    assert [c["label"] for c in (await api.get("/connections?external_id=x")).json()["data"]] == ["a"]
    assert (await api.get("/connections?status=connected")).json()["data"] == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=W10", "cursor=%00", "statsu=connected", "status=happy"],
)
async def test_a_wrong_query_is_refused(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/connections?{query}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"


async def test_a_change_replaces_what_is_given(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    path = f"/connections/{connection['id']}"

    changed = (await api.patch(path, json={"label": "New", "metadata": {"k": 1}, "external_id": "e"})).json()
    kept = (await api.patch(path, json={"external_id": None})).json()

    assert (changed["label"], changed["metadata"], changed["external_id"]) == ("New", {"k": 1}, "e")
    assert (kept["label"], kept["metadata"], kept["external_id"]) == ("New", {"k": 1}, None)


async def test_a_webhook_may_be_added_moved_and_taken_away(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    path = f"/connections/{connection['id']}"

    added = (await api.patch(path, json={"webhook_url": "https://192.0.2.1/a"})).json()
    moved = (await api.patch(path, json={"webhook_url": "https://192.0.2.1/b"})).json()
    gone = (await api.patch(path, json={"webhook_url": None})).json()

    assert added["webhook_secret"].startswith("whsec_")
    assert (moved["webhook_url"], "webhook_secret" in moved) == ("https://192.0.2.1/b", False)
    assert gone["webhook_url"] is None


async def test_a_rate_of_its_own_reaches_the_group(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await api.patch(f"/connections/{connection['id']}", json={"config": {"send_rate_per_minute": 7}})

    rate = await database.fetchval(
        "SELECT rate_per_minute FROM job_groups WHERE grp = $1 AND queue = 4", connection["id"]
    )
    assert rate == 7


async def test_a_weight_of_its_own_reaches_the_group_and_goes_with_the_config(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    async def weight() -> int:
        found: int = await database.fetchval(
            "SELECT weight FROM job_groups WHERE grp = $1 AND queue = 4", connection["id"]
        )
        return found

    path = f"/connections/{connection['id']}"
    await api.patch(path, json={"config": {"send_weight": 3}})
    given = await weight()
    await api.patch(path, json={"config": {}})

    assert (given, await weight()) == (3, 1)


async def test_starts_at_the_same_moment_are_one_opening(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await database.execute("DELETE FROM jobs")

    calls = [api.post(f"/connections/{connection['id']}/start") for _ in range(8)]
    answers = [answer.json() for answer in await asyncio.gather(*calls)]

    assert sorted(answer["deduplicated"] for answer in answers) == [False] + [True] * 7
    assert await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'init-session'") == 1


async def test_while_an_opening_is_pending_a_start_is_that_one(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    path = f"/connections/{connection['id']}"

    answers = [(await api.post(f"{path}/{call}")).json() for call in ("start", "restart", "start")]

    assert {answer["job"]["id"] for answer in answers} == {f"session-init-{connection['id']}"}
    assert all(answer["deduplicated"] for answer in answers)
    assert await database.fetchval("SELECT count(*) FROM jobs WHERE name = 'init-session'") == 1


@pytest.mark.parametrize("call", ["stop", "logout"])
async def test_closing_twice_is_one_job(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, call: str
) -> None:
    path = f"/connections/{connection['id']}"

    first, second = (await api.post(f"{path}/{call}")).json(), (await api.post(f"{path}/{call}")).json()

    assert first["job"]["id"].startswith(f"session-close-{connection['id']}-")
    assert (first["job"]["id"], second["deduplicated"]) == (second["job"]["id"], True)
    data = await database.fetchval("SELECT data FROM jobs WHERE name = 'close-session'")
    assert data == {"sessionId": connection["id"], "reason": call}
    assert await database.fetchval("SELECT desired FROM connections") == "offline"


async def test_a_closed_connection_is_started_from_the_beginning(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await database.execute("UPDATE connections SET status = 'closed', desired = 'offline'")

    answer = (await api.post(f"/connections/{connection['id']}/start")).json()

    assert answer["connection"]["status"] == "initializing"
    assert await database.fetchval("SELECT desired FROM connections") == "online"


async def test_a_pause_is_a_reason_that_a_resume_takes_away(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    path = f"/connections/{connection['id']}"
    reasons = "SELECT reasons FROM job_groups WHERE queue = 4 AND grp = $1"

    paused = (await api.post(f"{path}/pause")).json()["connection"]
    assert paused["paused"] is True
    assert set(await database.fetchval(reasons, connection["id"])) == {"connection_offline", "connection_paused"}
    resumed = (await api.post(f"{path}/resume")).json()["connection"]

    assert resumed["paused"] is False
    assert await database.fetchval(reasons, connection["id"]) == ["connection_offline"]


async def test_a_deleted_connection_is_gone_and_gives_its_external_id_back(
    api: httpx.AsyncClient, database: Connection
) -> None:
    made = (await api.post("/connections", json={"label": "a", "external_id": "x"})).json()["connection"]
    path = f"/connections/{made['id']}"

    deleted = await api.delete(path)
    again = await api.delete(path)

    assert (deleted.status_code, again.status_code) == (202, 202)
    assert (again.json()["job"]["id"], again.json()["deduplicated"]) == (deleted.json()["job"]["id"], True)
    assert (await api.get(path)).status_code == 404
    assert (await api.post(f"{path}/start")).status_code == 404
    assert (await api.get("/connections")).json()["data"] == []
    states = {row["name"]: row["state"] for row in await database.fetch("SELECT name, state FROM jobs")}
    assert states == {"init-session": "cancelled", "close-session": "waiting"}
    assert (await api.post("/connections", json={"label": "b", "external_id": "x"})).status_code == 202
    await database.execute(
        "UPDATE jobs SET state = 'cancelled', dedupe = NULL, finished_at = now() WHERE name = 'close-session'"
    )
    assert (await api.delete(path)).status_code == 404


@pytest.mark.parametrize(
    "call", ["", "/start", "/restart", "/stop", "/logout", "/pause", "/resume", "/qr", "/messages"]
)
async def test_an_unknown_connection_is_not_found(api: httpx.AsyncClient, ledger: Ledger, call: str) -> None:
    before = await ledger.rows()
    method = "GET" if call in {"", "/qr", "/messages"} else "POST"

    answer = await api.request(method, f"/connections/{uuid4()}{call}")

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert await ledger.rows() == before
