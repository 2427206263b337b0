"""A backup of a running ZapHub comes back without a QR code, and sends nothing that may have been sent since."""

# ruff: noqa: TID251 - a command is started as a user starts it

import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Stack, clients_of, supervised, until
from tests.wire.fake_whatsapp.processes import Server

pytestmark = [pytest.mark.e2e, pytest.mark.wire, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PHONE = "5511955550007"
SLOW = "5511988880001"
SENT = "5511988880002"
WAITING = "5511988880003"


@pytest.fixture
async def whatsapp(tmp_path: Path) -> AsyncIterator[Server]:
    # WhatsApp does not come back from a backup: one for the old ZapHub and the new.
    server = Server(tmp_path / "whatsapp")
    await server.start()
    yield server
    await server.close()


async def test_a_backup_comes_back_without_a_qr_code_and_sends_nothing_twice(tmp_path: Path, whatsapp: Server) -> None:
    old, new, backup = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    new.mkdir()

    with supervised(old, fake_whatsapp_url=whatsapp.control_url) as ready:
        async with clients_of(ready) as stack:
            connection = (await stack.pair(PHONE))["connection"]["id"]
            await _send(stack, connection, SENT, "sent long ago")
            await until(lambda: _row(stack, connection, "sent long ago", {"delivered"}), within_s=30, what="delivered")
            # Its answer does not come: when the backup is made, the try is under way.
            await whatsapp.post("/faults", kind="no_ack", session_phone=PHONE, contact=SLOW)
            await _send(stack, connection, SLOW, "under way")
            await until(lambda: _on_wire(stack, "under way"), within_s=30, what="the frame of the try")
            await _send(stack, connection, WAITING, "waits")

            said = _zh("backup", "--data-dir", str(old / "data"), "--out", str(backup))
            assert "1 connections, 3 messages" in said.stdout

    # The backup is the past: after it, the old ZapHub could have sent what waited.
    refused = _zh("restore", str(backup), "--data-dir", str(old / "data"), code=1)
    assert "never writes over anything" in refused.stderr
    said = _zh("restore", str(backup), "--data-dir", str(new / "data"))
    assert "Sending is paused" in said.stderr
    await whatsapp.clear_faults()

    with supervised(new, fake_whatsapp_url=whatsapp.control_url) as ready:
        async with clients_of(ready) as stack:
            where = f"/connections/{connection}"
            await until(lambda: _is(stack, where, "connected"), within_s=60, what="connected without a QR code")
            await whatsapp.post("/inbound", session_phone=PHONE, **{"from": SENT, "text": "are you back?"})
            await until(lambda: _row(stack, connection, "are you back?", {"delivered"}), within_s=30, what="received")
            assert (await stack.api.get("/queues/message:send")).json()["paused"] is True
            waits = await _row(stack, connection, "waits", {"queued"})
            assert waits is not None
            assert waits["parked_reason"] == "queue_paused"

            assert (await stack.api.post("/queues/message:send/resume")).status_code == 202
            await until(lambda: _row(stack, connection, "waits", {"delivered"}), within_s=60, what="what waited")
            await until(
                lambda: _row(stack, connection, "under way", {"unknown", "sent", "delivered"}),
                within_s=60,
                what="what was under way",
            )
            rows = await stack.wire(PHONE)
            assert Counter(row["text"] for row in rows) == {"sent long ago": 1, "under way": 1, "waits": 1}
            # The login after the pairing, and the one after the restore: nobody scanned anything.
            assert (await whatsapp.session(PHONE))["connects"] == 2


async def _send(stack: Stack, connection: str, to: str, text: str) -> None:
    body = {"to": to, "type": "text", "payload": {"text": text}}
    answer = await stack.api.post(f"/connections/{connection}/send", json=body)
    assert answer.status_code == 202, answer.text


async def _row(stack: Stack, connection: str, text: str, statuses: set[str]) -> dict[str, Any] | None:
    messages = await stack.messages(connection)
    return next((one for one in messages if one["payload"].get("text") == text and one["status"] in statuses), None)


async def _on_wire(stack: Stack, text: str) -> bool:
    return any(row["text"] == text for row in await stack.wire(PHONE))


async def _is(stack: Stack, where: str, status: str) -> bool:
    return bool((await stack.api.get(where)).json()["status"] == status)


def _zh(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "local.cli", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done
