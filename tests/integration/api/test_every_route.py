"""Every route of the app, tried without a key, with one that lacks the scope, and with keys of somebody else.

The cases are written down here and compared with the app: a new route without a case fails.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from api.openapi import routes_of, scope_of
from shared.db import api_keys
from shared.db.api_keys import Scope
from shared.db.pool import Connection
from shared.domain.ids import DEFAULT_TENANT, TenantId
from tests.integration.api.conftest import Ledger

_OPEN: Final = "open"
_OWN_CHECK: Final = "judges by itself"  # a ticket, or a setting: its own tests say how


@dataclass(frozen=True, slots=True)
class Case:
    """What a key needs for a call, and what is answered to a key limited to another connection, or of another tenant.

    `body`, `query` and `headers` make the request a right one; `{name}` in them is an object of somebody else.
    """

    scope: str
    limited: int = 404
    tenant: int = 404
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


_TEXT: Final = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
_FORM: Final = {"content-type": "text/plain"}
CASES: Final[dict[tuple[str, str], Case]] = {
    ("GET", "/healthz"): Case(_OPEN),
    ("GET", "/readyz"): Case(_OPEN),
    ("GET", "/metrics"): Case(_OWN_CHECK),
    ("GET", "/docs"): Case(_OPEN),
    ("GET", "/errors"): Case(_OPEN),
    ("GET", "/errors/{code}"): Case(_OPEN),
    ("POST", "/connections"): Case("connections:write", limited=403, tenant=202, body={"label": "a"}),
    ("GET", "/connections"): Case("connections:read", limited=200, tenant=200),
    ("GET", "/connections/{connection_id}"): Case("connections:read"),
    ("PATCH", "/connections/{connection_id}"): Case("connections:write", body={"label": "mine"}),
    ("DELETE", "/connections/{connection_id}"): Case("connections:write"),
    **{
        ("POST", f"/connections/{{connection_id}}/{call}"): Case("connections:write")
        for call in ("start", "restart", "stop", "logout", "pause", "resume")
    },
    ("GET", "/connections/{connection_id}/qr"): Case("connections:write"),
    ("POST", "/connections/{connection_id}/proxy/test"): Case("connections:write"),
    ("POST", "/connections/{connection_id}/pair-code"): Case("connections:write", body={"phone": "5511987654321"}),
    ("POST", "/connections/{connection_id}/send"): Case("messages:write", body=_TEXT),
    ("POST", "/connections/{connection_id}/send/batch"): Case("messages:write", body={"messages": [_TEXT]}),
    ("POST", "/connections/{connection_id}/typing"): Case("messages:write", body={"to": "5511987654321"}),
    ("POST", "/connections/{connection_id}/read"): Case("messages:write", body={"message_ids": ["{message_id}"]}),
    ("POST", "/connections/{connection_id}/contacts/check"): Case("messages:write", body={"phones": ["5511987654321"]}),
    ("GET", "/connections/{connection_id}/messages"): Case("messages:read"),
    ("GET", "/messages/{message_id}"): Case("messages:read"),
    ("GET", "/messages/{message_id}/timeline"): Case("messages:read"),
    ("POST", "/messages/{message_id}/retry"): Case("messages:write"),
    ("POST", "/messages/{message_id}/cancel"): Case("messages:write"),
    ("POST", "/messages/{message_id}/resolve"): Case("messages:write", body={"outcome": "sent"}),
    ("POST", "/messages/cancel"): Case("messages:write", body={"filter": {"connection_id": "{connection_id}"}}),
    ("POST", "/messages/retry"): Case("messages:write", body={"filter": {"connection_id": "{connection_id}"}}),
    ("POST", "/media"): Case("messages:write", query={"connection_id": "{connection_id}"}, body=b"a", headers=_FORM),
    ("GET", "/media/{media_id}"): Case("messages:read"),
    ("HEAD", "/media/{media_id}"): Case("messages:read"),
    ("DELETE", "/media/{media_id}"): Case("messages:write"),
    ("GET", "/queues"): Case("queues:read", limited=403, tenant=403),
    ("GET", "/queues/{name}"): Case("queues:read", limited=403, tenant=403),
    ("GET", "/queues/{name}/jobs"): Case("queues:read", limited=403, tenant=403),
    ("POST", "/queues/pause"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/resume"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/clean"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/{name}/pause"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/{name}/resume"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/{name}/clean"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/queues/{name}/retry-failed"): Case("queues:write", limited=403, tenant=403),
    ("POST", "/maintenance/cleanup"): Case("queues:write", limited=403, tenant=403),
    ("GET", "/jobs/{job_id}"): Case("queues:read"),
    ("POST", "/jobs/{job_id}/retry"): Case("queues:write"),
    ("DELETE", "/jobs/{job_id}"): Case("queues:write"),
    ("POST", "/webhooks"): Case(
        "webhooks:write",
        limited=422,
        tenant=422,
        body={"url": "https://192.0.2.1/", "events": ["*"], "connection_ids": ["{connection_id}"]},
    ),
    ("GET", "/webhooks"): Case("webhooks:read", limited=200, tenant=200),
    ("GET", "/webhooks/{webhook_id}"): Case("webhooks:read"),
    ("PATCH", "/webhooks/{webhook_id}"): Case("webhooks:write", body={"events": ["*"]}),
    ("DELETE", "/webhooks/{webhook_id}"): Case("webhooks:write"),
    ("POST", "/webhooks/{webhook_id}/rotate-secret"): Case("webhooks:write", body={}),
    ("POST", "/webhooks/{webhook_id}/enable"): Case("webhooks:write"),
    ("POST", "/webhooks/{webhook_id}/disable"): Case("webhooks:write"),
    ("POST", "/webhooks/{webhook_id}/test"): Case("webhooks:write"),
    ("POST", "/webhooks/{webhook_id}/replay"): Case("webhooks:write", body={"since": "2026-01-01T00:00:00Z"}),
    ("GET", "/webhooks/{webhook_id}/deliveries"): Case("webhooks:read"),
    ("GET", "/deliveries/{delivery_id}"): Case("webhooks:read"),
    ("POST", "/deliveries/{delivery_id}/redeliver"): Case("webhooks:write"),
    ("GET", "/events"): Case("events:read", query={"connection_id": "{connection_id}"}),
    ("GET", "/events/stream"): Case(_OWN_CHECK),
    ("POST", "/events/ticket"): Case("events:read", limited=200, tenant=200),
    ("POST", "/api-keys"): Case(
        "keys:write",
        limited=403,
        tenant=422,
        body={"name": "k", "scopes": ["messages:read"], "connection_ids": ["{connection_id}"]},
    ),
    ("GET", "/api-keys"): Case("keys:read", limited=403, tenant=200),
    ("GET", "/api-keys/{key_id}"): Case("keys:read", limited=403),
    ("PATCH", "/api-keys/{key_id}"): Case("keys:write", limited=403, body={"name": "mine"}),
    ("DELETE", "/api-keys/{key_id}"): Case("keys:write", limited=403),
}
_KEYED: Final = [call for call, case in CASES.items() if case.scope not in {_OPEN, _OWN_CHECK}]
# What may be made by anybody, for themselves.
_MAKES_OWN: Final = {("POST", "/connections"), ("POST", "/events/ticket")}


@dataclass(slots=True)
class World:
    """Objects of one connection, and the keys of people who have nothing to do with it."""

    objects: dict[str, str]
    limited: dict[str, str]
    of_another_tenant: dict[str, str]

    async def call(self, api: httpx.AsyncClient, call: tuple[str, str], headers: dict[str, str]) -> httpx.Response:
        """The call as it would be right, about the objects above."""
        return await self.call_about(api, call, headers, self.objects)

    async def call_about(
        self, api: httpx.AsyncClient, call: tuple[str, str], headers: dict[str, str], objects: dict[str, str]
    ) -> httpx.Response:
        method, path = call
        case = CASES[call]
        url = _filled(path, objects)
        query = {name: _filled(value, objects) for name, value in case.query.items()}
        given = {**headers, **case.headers}
        if isinstance(case.body, bytes):
            return await api.request(method, url, headers=given, params=query, content=case.body)
        body = None if case.body is None else json.loads(_filled(json.dumps(case.body), objects))
        return await api.request(method, url, headers=given, params=query, json=body)


def _filled(text: str, objects: dict[str, str]) -> str:
    for name, value in objects.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def world(api: httpx.AsyncClient, database: Connection, connection: dict[str, Any]) -> World:
    mine = connection["id"]
    other = (await api.post("/connections", json={"label": "other"})).json()["connection"]["id"]
    sent = (await api.post(f"/connections/{mine}/send", json=_TEXT)).json()
    webhook = {"url": "https://192.0.2.1/", "events": ["*"], "connection_ids": [mine]}
    webhook_id = (await api.post("/webhooks", json=webhook)).json()["id"]
    delivery = (await api.post(f"/webhooks/{webhook_id}/test")).json()["delivery"]["id"]
    media = (await api.post(f"/media?connection_id={mine}", content=b"a", headers=_FORM)).json()["id"]
    key = (await api.post("/api-keys", json={"name": "k", "scopes": ["admin"]})).json()["id"]
    limited = await api.post("/api-keys", json={"name": "l", "scopes": ["admin"], "connection_ids": [other]})
    tenant = TenantId(uuid4())
    await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'another')", tenant)
    _, of_another_tenant = await api_keys.create(database, tenant_id=tenant, name="t", scopes=[Scope.ADMIN])
    return World(
        objects={
            "connection_id": mine,
            "message_id": sent["message"]["id"],
            "job_id": sent["job"]["id"],
            "webhook_id": webhook_id,
            "delivery_id": delivery,
            "media_id": media,
            "key_id": key,
            "name": "message:send",
            "code": "NOT_FOUND",
        },
        limited=_with(limited.json()["key"]),
        of_another_tenant=_with(of_another_tenant),
    )


@pytest.fixture
async def nobody(api: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The same app, without a key of its own."""
    async with httpx.AsyncClient(transport=api._transport, base_url="http://api.test") as client:
        yield client


def test_every_route_of_the_app_has_a_case_here() -> None:
    served = {
        (method, str(route.path_format)): scope_of(route)
        for route in routes_of(create_app())
        for method in route.methods or ()
    }

    assert CASES.keys() == served.keys(), "write down what the new route needs, and what a foreign key gets"
    assert {call: scope for call, scope in served.items() if scope is not None} == {
        call: CASES[call].scope for call in _KEYED
    }


async def test_without_a_key_none_of_them_answers(nobody: httpx.AsyncClient, world: World, ledger: Ledger) -> None:
    before = await ledger.rows()

    for call in _KEYED:
        answer = await world.call(nobody, call, {})
        assert answer.status_code == 401, (call, answer.text)
    for call, case in CASES.items():
        if case.scope == _OPEN:
            assert (await world.call(nobody, call, {})).status_code == 200, call
    assert (await nobody.get("/events/stream")).status_code == 401
    assert await ledger.rows() == before


async def test_with_every_scope_but_the_right_one_none_of_them_answers(
    nobody: httpx.AsyncClient, database: Connection, world: World, ledger: Ledger
) -> None:
    keys = {}
    for lacking in Scope:
        others = [scope for scope in Scope if scope not in {lacking, Scope.ADMIN}]
        _, keys[lacking] = await api_keys.create(database, tenant_id=DEFAULT_TENANT, name="k", scopes=others)
    before = await ledger.rows()

    for call in _KEYED:
        answer = await world.call(nobody, call, _with(keys[Scope(CASES[call].scope)]))
        assert answer.status_code == 403, (call, answer.text)
        if call[0] != "HEAD":
            assert CASES[call].scope in answer.json()["detail"], call
    assert await ledger.rows() == before


@pytest.mark.parametrize("who", ["limited", "of_another_tenant"])
async def test_what_is_somebody_else_s_looks_like_what_is_not_there(
    nobody: httpx.AsyncClient, world: World, ledger: Ledger, who: str
) -> None:
    key: dict[str, str] = getattr(world, who)
    missing = {
        name: value if name in {"name", "code"} else f"msg-send-{uuid4()}" if name == "job_id" else str(uuid4())
        for name, value in world.objects.items()
    }
    before = await ledger.rows()

    for call in _KEYED:
        if call in _MAKES_OWN and who == "of_another_tenant":
            continue
        expected = CASES[call].limited if who == "limited" else CASES[call].tenant
        foreign = await world.call(nobody, call, key)
        absent = await world.call_about(nobody, call, key, missing)
        assert foreign.status_code == expected, (call, foreign.text)
        assert _told(foreign, world.objects) == _told(absent, missing), call
    assert await ledger.rows() == before


def _told(answer: httpx.Response, asked: dict[str, str]) -> object:
    """The answer without what differs from request to request: its id, its times, and the ids that were asked for."""
    text = answer.text
    for name, value in asked.items():
        text = text.replace(value, f"<{name}>") if name not in {"name", "code"} else text
    if not answer.headers.get("content-type", "").startswith("application/problem"):
        # A list or a ticket of the caller's own; none of the ids may be in it.
        return answer.status_code, text if "<" in text else ""
    return {**json.loads(text), "request_id": None} if text else answer.status_code


@pytest.mark.parametrize("who", ["limited", "of_another_tenant"])
async def test_a_job_that_names_no_connection_rightly_is_none_of_theirs(
    nobody: httpx.AsyncClient, api: httpx.AsyncClient, database: Connection, world: World, who: str
) -> None:
    path = f"/jobs/{world.objects['job_id']}"

    for odd in ("loja1", "", 7, None, ["x"], {}):
        await database.execute("UPDATE jobs SET data = $1 WHERE job_key = $2", {"sessionId": odd}, path[6:])
        foreign = await nobody.get(path, headers=getattr(world, who))
        own = await api.get(path)
        assert (foreign.status_code, own.status_code) == (404, 200), (odd, foreign.text, own.text)


async def test_the_owner_gets_through_where_others_do_not(api: httpx.AsyncClient, world: World) -> None:
    """So that the tests above are not right about requests that nobody could make."""
    refused = {}
    last = [call for call in _KEYED if call[0] == "DELETE"]
    for call in [*(call for call in _KEYED if call not in last), *last[::-1]]:
        answer = await world.call(api, call, {})
        if answer.status_code in {401, 403, 404, 422}:
            refused[call] = answer.text

    assert not refused


async def test_a_key_limited_to_a_connection_is_let_in_to_it(
    nobody: httpx.AsyncClient, api: httpx.AsyncClient, world: World
) -> None:
    made = await api.post(
        "/api-keys", json={"name": "l", "scopes": ["admin"], "connection_ids": [world.objects["connection_id"]]}
    )
    own = _with(made.json()["key"])

    answers = [
        await world.call(nobody, call, own)
        for call in _KEYED
        if call[0] == "GET" and CASES[call].limited == 404 and "/qr" not in call[1]
    ]

    assert {answer.status_code for answer in answers} == {200}
