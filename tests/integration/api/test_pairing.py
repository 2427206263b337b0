"""The QR code over HTTP: four forms, waiting for it, and why there is none."""

import asyncio
import base64
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection

CODE = "2@AbCdEf,GhIjKl,MnOpQr,StUvWx"


async def _show(
    database: Connection, *, code: str | None = CODE, lives_s: float = 60, status: str = "qr_pending"
) -> None:
    await database.execute(
        "UPDATE connections SET status = $1, qr_code = $2, qr_attempt = 2, "
        "qr_expires_at = now() + make_interval(secs => $3)",
        status,
        code,
        lives_s,
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
