"""The QR code over HTTP: four forms, waiting for it, and why there is none."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.api.conftest import running

CODE = "2@AbCdEf,GhIjKl,MnOpQr,StUvWx"


async def _show(
    database: Connection,
    *,
    code: str | None = CODE,
    lives_s: float = 60,
    status: str = "qr_pending",
    reason: str | None = None,
) -> None:
    await database.execute(
        "UPDATE connections SET status = $1, status_reason = $4, qr_code = $2, qr_attempt = 2, "
        "qr_expires_at = now() + make_interval(secs => $3)",
        status,
        code,
        lives_s,
        reason,
    )


@pytest.mark.parametrize(
    ("accept", "kind", "start"),
    [
        ("image/png", "image/png", b"\x89PNG"),
        ("image/svg+xml", "image/svg+xml", b"<?xml"),
        ("text/plain", "text/plain; charset=utf-8", CODE.encode()),
        ("application/json", "application/json", b"{"),
        ("*/*", "application/json", b"{"),
        ("image/avif,image/webp,image/png,*/*;q=0.8", "image/png", b"\x89PNG"),
        ("text/html", "application/json", b"{"),
        ("image/png;q=zero, text/plain;q=0.1", "text/plain; charset=utf-8", CODE.encode()),
    ],
)
async def test_the_code_comes_in_the_form_that_is_asked_for(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, accept: str, kind: str, start: bytes
) -> None:
    await _show(database)

    answer = await api.get(f"/connections/{connection['id']}/qr", headers={"Accept": accept})

    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.content.startswith(start)
    assert answer.headers["cache-control"] == "no-store"


async def test_json_holds_all_there_is(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await _show(database)

    shown = (await api.get(f"/connections/{connection['id']}/qr")).json()

    assert (shown["code"], shown["attempt"]) == (CODE, 2)
    assert base64.b64decode(shown["png_base64"]).startswith(b"\x89PNG")
    assert shown["expires_at"].endswith("Z")


@pytest.mark.parametrize(
    ("row", "code", "retryable"),
    [
        ({"code": None}, "QR_NOT_READY", True),
        ({"lives_s": -1}, "QR_NOT_READY", True),
        ({"code": None, "status": "initializing"}, "QR_NOT_READY", True),
        ({"code": None, "status": "connected"}, "ALREADY_CONNECTED", False),
        ({"code": None, "status": "closed"}, "QR_NOT_READY", False),
        ({"code": None, "status": "failed", "reason": "PAIRING_EXPIRED"}, "PAIRING_EXPIRED", False),
        ({"code": None, "status": "failed", "reason": "odd"}, "QR_NOT_READY", False),
        ({"code": None, "status": "passkey_required"}, "PASSKEY_REQUIRED", False),
    ],
)
async def test_why_there_is_none(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    database: Connection,
    row: dict[str, Any],
    code: str,
    *,
    retryable: bool,
) -> None:
    await _show(database, **row)

    answer = await api.get(f"/connections/{connection['id']}/qr")

    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (409, code, retryable)


async def test_a_wait_ends_when_the_code_is_there(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.get(f"/connections/{connection['id']}/qr?wait=25"))
        await _show(database)

    assert waiting.result().json()["code"] == CODE


@pytest.mark.parametrize("wait", ["-1", "26", "x", "nan", "inf"])
async def test_a_wait_is_bounded(api: httpx.AsyncClient, connection: dict[str, Any], wait: str) -> None:
    answer = await api.get(f"/connections/{connection['id']}/qr?wait={wait}")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?wait")


class Host:
    """A session host that holds every connection and answers `pair-code` with what it was told to."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split()[0])
        self.asked.append(json.loads(await reader.readexactly(length)))
        body = json.dumps(self.answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("told", "status", "code"),
    [
        ({"kind": "code", "code": "ABCD-1234", "expires_at": "2026-01-31T12:00:00Z"}, 200, "ABCD-1234"),
        ({"kind": "refused", "code": "RATE_OVERLIMIT", "detail": "too many codes"}, 409, "RATE_OVERLIMIT"),
        ({"kind": "not_owner"}, 503, "HOST_UNREACHABLE"),
        ({"kind": "not_connected"}, 409, "QR_NOT_READY"),
        ({"kind": "surprise"}, 503, "HOST_UNREACHABLE"),
    ],
)
async def test_the_owner_s_host_is_asked_for_a_pairing_code(
    settings: Settings, database: Connection, told: dict[str, Any], status: int, code: str
) -> None:
    host = Host(told)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await database.execute("INSERT INTO hosts (id, address, capacity) VALUES ('h', $1, 5)", address)
    given = settings.model_copy(update={"host_token": SecretStr("token-of-the-tests")})

    async with server, running(given) as api:
        made = (await api.post("/connections", json={"label": "a"})).json()["connection"]
        await _show(database, code=None)
        await database.execute(
            "UPDATE connections SET host_id = 'h', lease_epoch = 3, lease_until = now() + interval '1 m'"
        )
        answer = await api.post(f"/connections/{made['id']}/pair-code", json={"phone": "+55 11 98765-4321"})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert host.asked == [{"connection_id": made["id"], "epoch": 3, "phone": "5511987654321"}]


async def test_without_a_host_a_pairing_code_is_worth_another_try(
    settings: Settings, database: Connection, api: httpx.AsyncClient, connection: dict[str, Any]
) -> None:
    path = f"/connections/{connection['id']}/pair-code"
    await _show(database, code=None)
    without_token = await api.post(path, json={"phone": "5511987654321"})
    async with running(settings.model_copy(update={"host_token": SecretStr("token-of-the-tests")})) as other:
        without_owner = await other.post(path, json={"phone": "5511987654321"})
        await _show(database, status="connected", code=None)
        connected = await other.post(path, json={"phone": "5511987654321"})
        wrong = await other.post(path, json={"phone": "abc"})

    assert [answer.json()["code"] for answer in (without_token, without_owner, connected)] == [
        *("HOST_UNREACHABLE", "HOST_UNREACHABLE", "ALREADY_CONNECTED")
    ]
    assert wrong.json()["errors"][0]["pointer"] == "/phone"
