"""Canaries (keys, secrets, phone numbers, texts) through the API, a worker and webhooks: none is in any log."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from shared.db.pool import Connection
from shared.queues import new_jobs
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.api.test_server import Server, serving
from tests.integration.drain.processes import worker_process

_PHONE = "5511987654321"
# Each spelling of the number, and what else nobody may read in a log.
_CANARIES = {
    "phone": r"5511987654321|\+55 \(11\) 98765-4321|%2B5511987654321|98765-?4321",
    "inbound phone": r"5521912345678",
    "text": r"canary-text",
    "label": r"canary-label",
    "key": r"zh_canary|" + re.escape(ADMIN_KEY),
    "secret": r"whsec_Y2FuYXJ5|canary-header|canary-in-url",
    "reply": r"canary-reply",
    "ticket": r"zt_canary",
    "body": r"canary-body",
    "password": r"canary-password",
}
_SECRET = "whsec_Y2FuYXJ5" + "QUJD" * 8


class _Sink(ThreadingHTTPServer):
    """Answers 500, then 200, each time with a body that nobody may read in a log."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.received: list[dict[str, Any]] = []
        self.got_one = threading.Event()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sink = self.server
        assert isinstance(sink, _Sink)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sink.received.append(json.loads(body))
        reply = b"canary-reply " + _PHONE.encode()
        self.send_response(200 if len(sink.received) % 2 else 500)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
        if any(event["event"] == "message.received" for event in sink.received):
            sink.got_one.set()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _sink() -> Iterator[_Sink]:
    with _Sink() as server:
        serves = threading.Thread(target=server.serve_forever)
        serves.start()
        try:
            yield server
        finally:
            server.shutdown()
            serves.join()


async def test_no_canary_comes_out_in_a_log(
    database_url: str, redis_url: str, database: Connection, tmp_path: Path
) -> None:
    api_folder, worker_folder = tmp_path / "api", tmp_path / "worker"
    api_folder.mkdir()
    shared_settings = {
        "redis_url": redis_url,
        "secret_key": "canary-password-of-the-test",
        "log_level": "debug",
        "webhook_allow_networks": "127.0.0.0/8",
        "transport": "redis",
    }
    everywhere = {**shared_settings, "database_url": database_url}
    environment = {f"ZAPHUB_{name.upper()}": value for name, value in everywhere.items()}
    with (
        _sink() as sink,
        serving(database_url, api_folder, **shared_settings) as server,
        worker_process("functions.worker:broker", environment, worker_folder) as worker,
    ):
        worker.child_pid(within_s=60)
        url = f"http://127.0.0.1:{sink.server_port}/hook?token=canary-in-url"
        connection = await asyncio.to_thread(_misuse, server, url)
        await _receive(everywhere, connection)
        assert await asyncio.to_thread(sink.got_one.wait, 60), "the webhook of the inbound message came"
        await database.execute("ALTER TABLE connections ADD CONSTRAINT no_canary CHECK (label !~ 'canary-label')")
        crashed = await asyncio.to_thread(_crash, server)
        worker.stop()

    logs = {"api": (api_folder / "log").read_text(), "worker": worker.log.read_text()}
    assert crashed.status_code == 500
    assert "canary" not in crashed.text
    # What was looked for is there: both processes told of what they did, the crash with its traceback.
    assert "http_request_ended" in logs["api"]
    assert "http_request_crashed" in logs["api"]
    assert "CheckViolationError" in logs["api"]
    assert "job_ended" in logs["worker"]
    assert re.search(r"canary-text", json.dumps(sink.received)), "the canary went through"
    found = {
        (name, kind): [line for line in log.splitlines() if re.search(pattern, line)][:2]
        for name, log in logs.items()
        for kind, pattern in _CANARIES.items()
        if re.search(pattern, log)
    }
    assert not found


def _misuse(server: Server, url: str) -> str:
    """Say each canary where it belongs, and where it does not. Returns the connection's id."""
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with httpx.Client(base_url=server.url, headers=key, timeout=30) as api:
        made = api.post(
            "/connections",
            json={"label": "Shop", "webhook_url": url, "webhook_secret": _SECRET, "metadata": {"canary-label": _PHONE}},
        )
        assert made.status_code == 202, made.text
        connection = str(made.json()["connection"]["id"])
        hook = {"url": url, "events": ["*"], "headers": {"Authorization": "canary-header"}, "secret": _SECRET}
        assert api.post("/webhooks", json=hook).status_code == 201
        path = f"/connections/{connection}"
        text = {"to": "+55 (11) 98765-4321", "type": "text", "payload": {"text": f"canary-text {_PHONE}"}}
        assert api.post(f"{path}/send", json=text).status_code == 202
        assert (
            api.post(f"{path}/send/batch", json={"messages": [text, {**text, "to": "canary-text"}]}).status_code == 202
        )
        for body in (
            {**text, "type": "canary-text"},
            {**text, "canary-text": _PHONE},
            {**text, "to": f"{_PHONE}@canary-text"},
            {"canary-body": 1},
        ):
            assert api.post(f"{path}/send", json=body).status_code == 422
        api.post("/connections", content=b'{"canary-body', headers={"Content-Type": "application/json"})
        api.post(f"{path}/pair-code", json={"phone": _PHONE})
        api.get(f"{path}/messages", params={"jid": _PHONE})
        api.get(f"/jobs/{_PHONE}")
        api.get(f"/nowhere/{_PHONE}/canary-text")
        api.get(f"/connections?external_id={_PHONE}&cursor=canary-text")
        api.get("/connections", headers={"Authorization": "Bearer zh_canary"})
        api.get("/events/stream?ticket=zt_canary")
        api.request("CANARY-TEXT", "/canary-text")
        api.get("/connections", headers={"X-Request-ID": "canary-text " + _PHONE, "User-Agent": "canary-text"})
    return connection


async def _receive(settings: dict[str, str], connection: str) -> None:
    """An inbound message as the session host hands it over, and jobs that nobody should have made."""
    chosen = Settings(_env_file=None, **settings)  # type: ignore[arg-type]  # text, as in the environment
    inbound = {
        "sessionId": connection,
        "waMessageId": "3EB0CANARY",
        "from": "5521912345678@s.whatsapp.net",
        "content": {"text": "canary-text in"},
        "type": "text",
        "timestamp": 1_780_000_000_000,
        "fromMe": False,
        "pushName": "canary-label",
    }
    async with await Queues.open(chosen) as queues:
        for data in (
            inbound,
            {**inbound, "waMessageId": "3EB0B", "content": "canary-text"},
            {**inbound, "waMessageId": "3EB0C", "timestamp": "canary-text"},
            {"sessionId": str(uuid4()), "waMessageId": "3EB0D", "from": "5521912345678@s.whatsapp.net"},
        ):
            await queues.enqueue(new_jobs.message_receive(data))


def _crash(server: Server) -> httpx.Response:
    """A fault of ours, whose reason in Postgres's own words holds the whole row."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    body = {"label": "canary-label", "metadata": {"canary-text": _PHONE}}
    return httpx.post(f"{server.url}/connections", json=body, headers=headers)
