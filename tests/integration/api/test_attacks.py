"""Attacks on the door, each with its exact input and what is answered; docs/security.md lists them by their threat."""

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db import api_keys
from shared.db.api_keys import Scope
from shared.db.pool import Connection
from shared.domain.ids import TenantId
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, Ledger, running
from tests.integration.api.test_lambda import _CONTAINER, _event
from tests.integration.api.test_server import serving

_TEXT = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}


# ---- S2: keys


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer \xff")],
        [(b"authorization", b"Bearer " + b"x" * 10_000)],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer null")],
        [(b"authorization", b"Bearer undefined")],
        [(b"authorization", b"Bearer \xc3\xa7\xc3\xa3o")],
        [(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")],
        [(b"authorization", f"Bearer {ADMIN_KEY}".encode()), (b"authorization", b"Bearer two")],
        [(b"authorization", f"Bearer {ADMIN_KEY}".encode()), (b"x-api-key", b"two")],
        [(b"authorization", f"Bearer {ADMIN_KEY},{ADMIN_KEY}".encode())],
        [(b"x-api-key", ADMIN_KEY.upper().encode())],
        [(b"x-api-key", ADMIN_KEY[:-1].encode())],
        [(b"cookie", f"key={ADMIN_KEY}".encode())],
        [(b"x-forwarded-user", b"admin"), (b"x-original-url", b"/healthz")],
    ],
)
async def test_s2_a_wrong_key_is_one_uniform_401(settings: Settings, headers: list[tuple[bytes, bytes]]) -> None:
    async with running(settings, key=None) as api:
        answer = await api.get("/connections", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
    assert answer.json()["detail"].startswith("Send a valid API key")


async def test_s2_a_key_in_the_query_string_is_no_key(settings: Settings) -> None:
    async with running(settings, key=None) as api:
        for name in ("key", "api_key", "apikey", "access_token", "token", "ticket"):
            assert (await api.get(f"/connections?{name}={ADMIN_KEY}")).status_code == 401


async def test_s2_a_dump_of_the_database_holds_no_part_of_a_key(api: httpx.AsyncClient, database: Connection) -> None:
    made = (await api.post("/api-keys", json={"name": "k", "scopes": ["admin"]})).json()["key"]
    await api.get("/connections", headers={"X-API-Key": made})

    row = await database.fetchval("SELECT row_to_json(k)::text FROM api_keys k")

    assert made[:8] in row, "its hint is there"
    assert made[8:20] not in row


# ---- S6: bodies


@pytest.mark.parametrize("length", ["1048577", "1000000000000", "9" * 40])
async def test_s6_a_length_that_is_too_much_is_refused_unread(api: httpx.AsyncClient, length: str) -> None:
    answer = await api.post(
        "/connections", content=b"{}", headers={"Content-Type": "application/json", "Content-Length": length}
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")


# ---- S7: JSON


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"label": NaN}', 400),
        (b'{"label": 1e999}', 400),
        (b'{"label": "\\ud800"}', 400),
        (b'{"label": "a\\u0000b"}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 900 + b"1" + b"}" * 900, 400),
        (b'{"label": ' + b"9" * 5000 + b"}", 400),
        (b'{"label": "a", "label": "b"}', 400),
        (b'\xef\xbb\xbf{"label": "a"}', 400),
        (b'{"label": "\xff"}', 400),
        (b"", 422),
        (b'{"__proto__": {"admin": true}, "label": "a"}', 422),
        (b'{"label": "a", "metadata": {"__class__": "x"}}', 202),
        (b'{"label": {"$ne": null}}', 422),
    ],
)
async def test_s7_json_at_its_edges(api: httpx.AsyncClient, ledger: Ledger, body: bytes, status: int) -> None:
    answer = await api.post("/connections", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status, answer.text
    assert (await ledger.rows())["connections"] == (1 if status == 202 else 0)


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800", "a\\u0000"])
async def test_s7_no_text_is_accepted_that_would_poison_a_job(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger, text: str
) -> None:
    body = f'{{"to": "5511987654321", "type": "text", "payload": {{"text": "{text}"}}}}'

    answer = await api.post(
        f"/connections/{connection['id']}/send", content=body, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_JSON")
    assert (await ledger.rows())["messages"] == 0


# ---- S15: SQL

_SQL = (
    *("' OR 1=1--", "'; DROP TABLE messages;--", "1 UNION SELECT key_hash FROM api_keys", "%", "_", "\\", "$1", "{}"),
    *("9223372036854775808", "-9223372036854775809", "NULL", "'||pg_sleep(10)||'", "created_at DESC"),
)


@pytest.mark.parametrize("value", _SQL)
async def test_s15_no_value_is_read_as_sql(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger, value: str
) -> None:
    before = await ledger.rows()
    query = {"limit": "10"}

    answers = [
        await api.get("/connections", params={**query, "external_id": value}),
        await api.get("/connections", params={**query, "cursor": value}),
        await api.get("/connections", params={**query, "sort": value}),
        await api.get(f"/connections/{connection['id']}/messages", params={**query, "jid": value}),
        await api.get("/queues/message:send/jobs", params={**query, "state": value}),
        await api.get(f"/jobs/{value}"),
        await api.get("/events", params={"type": value}),
        await api.post("/messages/cancel", json={"filter": {"error_code": value}, "dry_run": True}),
        await api.post("/messages/cancel", json={"filter": {"metadata": {value: value}}, "dry_run": True}),
        await api.post("/queues/message:send/retry-failed", json={"ids": [value], "dry_run": True}),
    ]

    assert all(answer.status_code in {200, 202, 404, 422} for answer in answers), [one.text for one in answers]
    assert all(answer.json().get("data", []) == [] for answer in answers)
    assert all(answer.json().get("count", 0) == 0 for answer in answers)
    assert await ledger.rows() == before


# ---- S20, S21: parallel requests


async def test_s21_a_hundred_of_the_same_key_at_once_are_one_message(
    api: httpx.AsyncClient, connection: dict[str, Any], ledger: Ledger
) -> None:
    path = f"/connections/{connection['id']}/send"

    answers = await asyncio.gather(*(api.post(path, json=_TEXT, headers={"Idempotency-Key": "k"}) for _ in range(100)))
    other = await api.post(path, json={**_TEXT, "priority": 1}, headers={"Idempotency-Key": "k"})

    assert {answer.status_code for answer in answers} <= {202, 503}
    done = [answer.json() for answer in answers if answer.status_code == 202]
    assert len({one["message"]["id"] for one in done}) == 1
    assert sum(not one["deduplicated"] for one in done) == 1
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert (await ledger.rows())["messages"] == 1


async def test_s21_the_key_of_another_tenant_is_another_key(
    api: httpx.AsyncClient, database: Connection, ledger: Ledger
) -> None:
    tenant = TenantId(uuid4())
    await database.execute("INSERT INTO tenants (id, name) VALUES ($1, 'another')", tenant)
    _, key = await api_keys.create(database, tenant_id=tenant, name="t", scopes=[Scope.ADMIN])
    keyed = {"Idempotency-Key": "the-same"}

    mine = await api.post("/connections", json={"label": "mine"}, headers=keyed)
    theirs = await api.post(
        "/connections", json={"label": "theirs"}, headers={**keyed, "Authorization": f"Bearer {key}"}
    )

    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["connection"]["id"] != theirs.json()["connection"]["id"]
    assert theirs.json()["connection"]["label"] == "theirs"
    assert (await ledger.rows())["connections"] == 2


@pytest.mark.parametrize("key", ["", "a b", "ç", "x" * 256, "a\tb", "\x7f"])
async def test_s21_a_key_that_is_none_is_refused_and_changes_nothing(
    api: httpx.AsyncClient, ledger: Ledger, key: str
) -> None:
    answer = await api.post("/connections", json={"label": "a"}, headers=[(b"Idempotency-Key", key.encode("utf-8"))])

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key")
    assert (await ledger.rows())["connections"] == 0


# ---- S12: the QR code is the account


async def test_s12_a_qr_code_is_for_its_owner_uncached_and_nowhere_else(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await database.execute(
        "UPDATE connections SET status = 'qr_pending', qr_code = '2@canary', qr_attempt = 1, "
        "qr_expires_at = now() + interval '1 minute'"
    )
    reader = (await api.post("/api-keys", json={"name": "r", "scopes": ["connections:read"]})).json()["key"]

    shown = await api.get(f"/connections/{connection['id']}/qr", headers={"Accept": "text/plain"})
    refused = await api.get(f"/connections/{connection['id']}/qr", headers={"Authorization": f"Bearer {reader}"})
    elsewhere = [
        await api.get(path)
        for path in (
            f"/connections/{connection['id']}",
            "/connections",
            "/events",
            f"/jobs/session-init-{connection['id']}",
        )
    ]

    assert (shown.text, shown.headers["cache-control"]) == ("2@canary", "no-store")
    assert refused.status_code == 403
    assert all(answer.status_code == 200 and "canary" not in answer.text for answer in elsewhere)


# ---- S19: an event of a Lambda that somebody made by hand


def test_s19_nothing_in_a_lambda_s_event_stands_for_a_key(database_url: str) -> None:
    events = []
    for path in ("//connections", "/%2e%2e/connections", "/connections/%2e%2e/api-keys", "/./api-keys", "/connections"):
        event = _event("GET", path)
        del event["headers"]["authorization"]
        event["headers"]["x-forwarded-for"] = "127.0.0.1, 10.0.0.1"
        event["requestContext"]["authorizer"] = {
            "lambda": {"principalId": "admin"},
            "jwt": {"claims": {"sub": "admin"}},
        }
        event["requestContext"]["http"]["sourceIp"] = "127.0.0.1"
        events.append(event)
    record = {"Records": [{"eventSource": "aws:sqs", "body": "{}", "messageId": "1"}]}

    answers = _lambda(database_url, [*events, record])

    assert len(answers) == len(events), "an event that is no request gets no answer"
    assert [answer["statusCode"] for answer in answers] == [404, 404, 404, 404, 401]


def _lambda(database_url: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", _CONTAINER],
        input="\n".join(json.dumps(event) for event in events),
        env={
            "PATH": "/usr/bin:/bin",
            "ZAPHUB_DATABASE_URL": database_url,
            "ZAPHUB_TRANSPORT": "memory",
            "ZAPHUB_ADMIN_KEY": ADMIN_KEY,
            "ZAPHUB_SECRET_KEY": "secret-key-of-the-tests",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    return [json.loads(line) for line in lines]


# ---- what only bytes on a wire can say


_HEAD = b"GET /connections HTTP/1.1\r\nHost: a\r\n"
_WIRE = (
    _HEAD + b"X-API-Key: a\r\n b\r\n\r\n",
    _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /x",
    _HEAD + b"Transfer-Encoding: identity, chunked, x\r\n\r\n",
    b"GET /connections\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://evil.example/connections HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    _HEAD + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
)


def test_bytes_that_mean_two_things_get_no_data(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path) as server:
        for request in _WIRE:
            with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as client:
                try:
                    client.sendall(request)
                    client.shutdown(socket.SHUT_WR)
                    answer = client.recv(65_536)
                except (BrokenPipeError, ConnectionResetError):
                    answer = b""
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), (request[:80], answer[:200])
            assert b'"data"' not in answer
            assert b"Traceback" not in answer
        assert httpx.get(f"{server.url}/healthz").status_code == 200
