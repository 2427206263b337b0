"""A receiver of webhooks as a customer would write one: it verifies every signature and stores by `webhook-id`."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_LOOPBACK = "127.0.0.1"
_TOLERANCE_S = 300


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook, however often it came."""

    raw: bytes
    body: dict[str, Any]  # Any: JSON, described in docs/webhooks.md

    @property
    def event(self) -> str:
        """What happened."""
        return str(self.body["event"])

    @property
    def sequence(self) -> int:
        """Its number among those of the same endpoint and session."""
        return int(self.body["sequence"])


@dataclass(slots=True)
class Sink:
    """What arrived so far."""

    secret: str
    url: str = ""
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    arrivals: int = 0
    wrong: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Store one webhook; 401 for one that is not signed with our secret."""
        raw = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        if not _is_signed(self.secret, request, raw):
            self.wrong.append(f"webhook {webhook_id or '(without an id)'} was not signed with the connection's secret")
            return web.Response(status=401)
        self.arrivals += 1
        webhook = Webhook(raw, json.loads(raw))
        if webhook.body["id"] != webhook_id:
            self.wrong.append(f"webhook {webhook_id} says in its body that it is {webhook.body['id']}")
        if self.webhooks.setdefault(webhook_id, webhook).raw != raw:
            self.wrong.append(f"webhook {webhook_id} came again with another body")
        return web.Response(status=204)


@asynccontextmanager
async def listening(secret: str) -> AsyncIterator[Sink]:
    """Listen on a free port of this machine, with a secret in the form `whsec_…`."""
    sink = Sink(secret)
    app = web.Application()
    app.router.add_post("/webhooks", sink.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _LOOPBACK, 0)
        await site.start()
        port = runner.addresses[0][1]
        sink.url = f"http://{_LOOPBACK}:{port}/webhooks"
        yield sink
    finally:
        await runner.cleanup()


def _is_signed(secret: str, request: web.Request, raw: bytes) -> bool:
    sent_at = request.headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > _TOLERANCE_S:
        return False
    signed = b".".join([request.headers.get("webhook-id", "").encode(), sent_at.encode(), raw])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = request.headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)
