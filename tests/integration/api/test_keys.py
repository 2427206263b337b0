"""Who may do what: keys that are missing, wrong, expired, revoked, of another scope or another connection."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, Ledger, running


async def _key(api: httpx.AsyncClient, *scopes: str, **fields: object) -> dict[str, Any]:
    answer = await api.post("/api-keys", json={"name": "k", "scopes": list(scopes), **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer null"},
        {"Authorization": f"Basic {ADMIN_KEY}"},
        {"Authorization": ADMIN_KEY},
        {"Authorization": "Bearer " + "x" * 10_000},
        [(b"Authorization", b"Bearer \xff\xfe")],
        {"X-API-Key": "wrong"},
        {"X-API-Key": ADMIN_KEY, "Authorization": "Bearer wrong"},
    ],
)
async def test_without_a_right_key_nothing_is_told(
    settings: Settings, headers: dict[str, str] | list[tuple[bytes, bytes]]
) -> None:
    async with running(settings, key=None) as api:
        answers = [
            await api.get("/connections", headers=headers),
            await api.get(f"/messages/{uuid4()}", headers=headers),
            await api.get(f"/connections?key={ADMIN_KEY}", headers=headers),
            await api.post("/connections", headers=headers, json={"label": "a"}),
        ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["code"] for answer in answers} == {"UNAUTHORIZED"}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_the_admin_key_comes_in_either_header(settings: Settings) -> None:
    async with running(settings, key=None) as api:
        assert (await api.get("/connections", headers={"X-API-Key": ADMIN_KEY})).status_code == 200
        assert (await api.get("/connections", headers={"authorization": f"bearer {ADMIN_KEY}"})).status_code == 200


async def test_a_key_is_shown_once_and_kept_as_a_hash(api: httpx.AsyncClient, database: Connection) -> None:
    made = await _key(api, "connections:read")

    assert made["key"].startswith("zh_")
    row = await database.fetchrow("SELECT * FROM api_keys")
    assert made["key"] not in str(row)
    assert made["key"] not in (await api.get("/api-keys")).text
    assert made["key"] not in (await api.get(f"/api-keys/{made['id']}")).text
    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 200
    assert await database.fetchval("SELECT last_used_at FROM api_keys") is not None


async def test_a_revoked_key_stops_with_the_next_request(api: httpx.AsyncClient) -> None:
    made = await _key(api, "connections:read")
    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 200

    revoked = await api.delete(f"/api-keys/{made['id']}")

    assert revoked.json()["revoked_at"] is not None
    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 401
    assert (await api.delete(f"/api-keys/{made['id']}")).json()["revoked_at"] == revoked.json()["revoked_at"]


async def test_keys_that_come_at_one_moment_are_told_apart(api: httpx.AsyncClient) -> None:
    reader, writer, ended = [await _key(api, scope) for scope in ("messages:read", "queues:read", "queues:read")]
    await api.delete(f"/api-keys/{ended['id']}")
    keys = [reader["key"], writer["key"], ended["key"], "zh_wrong"] * 5

    answers = await asyncio.gather(*(api.get("/queues", headers=_with(key)) for key in keys))

    assert [answer.status_code for answer in answers] == [403, 200, 401, 401] * 5


async def test_a_key_s_use_is_noted_once_a_minute_and_waits_for_nobody(
    api: httpx.AsyncClient, database: Connection
) -> None:
    key = await _key(api, "queues:read")
    ask = {"url": "/queues", "headers": _with(key["key"])}

    async with database.transaction():
        await database.execute("SELECT 1 FROM api_keys FOR UPDATE")
        while_held = await api.get(**ask)
    unnoted = await database.fetchval("SELECT last_used_at FROM api_keys")
    await api.get(**ask)
    noted = await database.fetchrow("SELECT last_used_at, xmin FROM api_keys")
    await asyncio.gather(*(api.get(**ask) for _ in range(5)))

    assert (while_held.status_code, unnoted) == (200, None)
    assert noted is not None
    assert noted["last_used_at"] is not None
    assert await database.fetchrow("SELECT last_used_at, xmin FROM api_keys") == noted


async def test_an_expired_key_is_no_key(api: httpx.AsyncClient, database: Connection) -> None:
    made = await _key(api, "connections:read", expires_at="2999-01-01T00:00:00Z")
    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 200

    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s'")

    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 401


async def test_a_key_does_what_its_scopes_say(api: httpx.AsyncClient, ledger: Ledger) -> None:
    made = await _key(api, "connections:read")
    before = await ledger.rows()

    answer = await api.post("/connections", json={"label": "a"}, headers=_with(made["key"]))

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert "connections:write" in answer.json()["detail"]
    assert await ledger.rows() == before


async def test_a_foreign_connection_looks_like_a_missing_one(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger
) -> None:
    own = (await api.post("/connections", json={"label": "own"})).json()["connection"]
    key = _with((await _key(api, "admin", connection_ids=[own["id"]]))["key"])
    before = await ledger.rows()

    foreign = [
        await api.request(method, f"/connections/{connection['id']}{call}", headers=key, json=body)
        for method, call, body in (
            ("GET", "", None),
            ("PATCH", "", {"label": "mine"}),
            ("DELETE", "", None),
            *(("POST", f"/{call}", None) for call in ("start", "restart", "stop", "logout", "pause", "resume")),
            ("GET", "/qr", None),
            ("GET", "/messages", None),
        )
    ]
    missing = await api.get(f"/connections/{uuid4()}", headers=key)

    def body(answer: httpx.Response) -> dict[str, Any]:
        return {**answer.json(), "request_id": None}

    assert {answer.status_code for answer in foreign} == {404}
    assert all(body(answer) == body(missing) for answer in foreign)
    assert await ledger.rows() == before
    assert [one["id"] for one in (await api.get("/connections", headers=key)).json()["data"]] == [own["id"]]
    assert (await api.get(f"/jobs/session-init-{connection['id']}", headers=key)).status_code == 404
    assert (await api.get(f"/jobs/session-init-{own['id']}", headers=key)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/connections", {"label": "a"}),
        ("GET", "/queues", None),
        ("POST", "/queues/pause", None),
        ("GET", "/queues/message:send/jobs", None),
        ("POST", "/api-keys", {"name": "a", "scopes": ["admin"]}),
        ("GET", "/api-keys", None),
    ],
)
async def test_a_limited_key_touches_nothing_that_is_everybodys(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger, method: str, path: str, body: object
) -> None:
    key = (await _key(api, "admin", connection_ids=[connection["id"]]))["key"]
    before = await ledger.rows()

    answer = await api.request(method, path, headers=_with(key), json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert await ledger.rows() == before


async def test_nobody_makes_a_key_that_may_more_than_their_own(api: httpx.AsyncClient) -> None:
    key = (await _key(api, "keys:write", "messages:read"))["key"]

    refused = await api.post("/api-keys", json={"name": "a", "scopes": ["admin"]}, headers=_with(key))
    made = await api.post("/api-keys", json={"name": "a", "scopes": ["messages:read"]}, headers=_with(key))

    assert (refused.status_code, made.status_code) == (403, 201)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "a", "scopes": []}, "/scopes"),
        ({"name": "a", "scopes": ["root"]}, "/scopes/0"),
        ({"name": "", "scopes": ["admin"]}, "/name"),
        ({"name": "a", "scopes": ["admin"], "connection_ids": []}, "/connection_ids"),
        ({"name": "a", "scopes": ["admin"], "connection_ids": [str(uuid4())]}, "/connection_ids"),
        ({"name": "a", "scopes": ["admin"], "expires_at": "tomorrow"}, "/expires_at"),
        ({"name": "a", "scopes": ["admin"], "expires_at": 1}, "/expires_at"),
    ],
)
async def test_a_wrong_key_request_is_named(api: httpx.AsyncClient, ledger: Ledger, body: object, pointer: str) -> None:
    answer = await api.post("/api-keys", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await ledger.rows())["api_keys"] == 0


async def test_keys_are_listed_page_by_page(api: httpx.AsyncClient) -> None:
    made = [(await _key(api, "admin"))["id"] for _ in range(3)]

    first = (await api.get("/api-keys?limit=2")).json()
    second = (await api.get("/api-keys", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [key["id"] for key in first["data"] + second["data"]] == made[::-1]


async def test_every_call_but_the_open_ones_wants_a_key(settings: Settings) -> None:
    open_paths = {"/healthz", "/readyz", "/metrics"}
    async with running(settings, key=None) as api:
        document = (await api.get("/openapi.json")).json()
        for path, calls in document["paths"].items():
            for method in calls:
                answer = await api.request(method, path.replace("{", "").replace("}", ""))
                assert (answer.status_code == 401) is (path not in open_paths), (method, path, answer.status_code)


async def test_a_key_is_changed_from_the_next_request_on(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    made = await _key(api, "connections:read")
    path, own = f"/api-keys/{made['id']}", _with(made["key"])

    changed = await api.patch(
        path, json={"name": "n", "scopes": ["messages:read"], "connection_ids": [connection["id"]]}
    )
    refused = await api.get("/connections", headers=own)
    allowed = await api.get(f"/connections/{connection['id']}/messages", headers=own)
    widened = await api.patch(path, json={"connection_ids": None, "scopes": ["connections:read"]})

    assert changed.json() == {
        **{name: value for name, value in made.items() if name != "key"},
        "name": "n",
        "scopes": ["messages:read"],
        "connection_ids": [connection["id"]],
        "last_used_at": None,
    }
    assert (refused.status_code, allowed.status_code) == (403, 200)
    assert (widened.json()["connection_ids"], widened.json()["name"]) == (None, "n")
    assert (await api.get("/connections", headers=own)).status_code == 200


async def test_a_key_s_end_may_be_moved(api: httpx.AsyncClient) -> None:
    made = await _key(api, "connections:read")
    path, own = f"/api-keys/{made['id']}", _with(made["key"])

    assert (await api.patch(path, json={"expires_at": "2026-01-01T00:00:00Z"})).status_code == 200
    assert (await api.get("/connections", headers=own)).status_code == 401
    assert (await api.patch(path, json={"expires_at": None})).json()["expires_at"] is None
    assert (await api.get("/connections", headers=own)).status_code == 200


async def test_a_revoked_key_stays_revoked(api: httpx.AsyncClient) -> None:
    made = await _key(api, "connections:read")
    await api.delete(f"/api-keys/{made['id']}")

    answer = await api.patch(f"/api-keys/{made['id']}", json={"expires_at": None})

    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_STATE")
    assert (await api.get("/connections", headers=_with(made["key"]))).status_code == 401


async def test_nobody_changes_a_key_to_or_of_more_than_their_own(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger, database: Connection
) -> None:
    keeper = _with((await _key(api, "keys:write", "messages:read"))["key"])
    small, strong = await _key(api, "messages:read"), await _key(api, "admin")
    limited = _with((await _key(api, "admin", connection_ids=[connection["id"]]))["key"])
    before = await database.fetch("SELECT id, name, scopes, connection_ids, expires_at FROM api_keys ORDER BY id")

    answers = [
        await api.patch(f"/api-keys/{small['id']}", json={"scopes": ["admin"]}, headers=keeper),
        await api.patch(f"/api-keys/{strong['id']}", json={"expires_at": None}, headers=keeper),
        await api.patch(f"/api-keys/{small['id']}", json={"name": "mine"}, headers=limited),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert (
        await database.fetch("SELECT id, name, scopes, connection_ids, expires_at FROM api_keys ORDER BY id") == before
    )


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": None}, ""),
        ({"scopes": None}, ""),
        ({"scopes": []}, "/scopes"),
        ({"name": " "}, "/name"),
        ({"connection_ids": [str(uuid4())]}, "/connection_ids"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"key": "zh_mine"}, "/key"),
        ({"revoked_at": None}, "/revoked_at"),
    ],
)
async def test_a_wrong_change_is_named_and_changes_nothing(api: httpx.AsyncClient, body: object, pointer: str) -> None:
    made = await _key(api, "connections:read")
    before = (await api.get(f"/api-keys/{made['id']}")).json()

    answer = await api.patch(f"/api-keys/{made['id']}", json=body)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await api.get(f"/api-keys/{made['id']}")).json() == before
