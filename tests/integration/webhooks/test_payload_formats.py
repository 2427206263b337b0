"""Webhooks in the words of other gateways, from the event log through the queue to a receiver."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from shared.db.pool import Pool
from shared.domain.ids import ConnectionId, EndpointId
from shared.domain.webhook import PayloadFormat, delivery_id_of, fan_out_job
from shared.egress.target import Target
from shared.queues.runtime import Queues
from shared.webhooks import endpoints
from shared.webhooks.endpoints import Registered, Registration
from shared.webhooks.fan_out import fan_out, replay_missed
from shared.webhooks.formats.wamid import wamid
from tests.integration.webhooks.conftest import Desk, drain, enqueue
from tests.integration.webhooks.servers import Server, serving
from tests.unit.compat.occasions import connection, message, sent

EVOLUTION, CLOUD = PayloadFormat.EVOLUTION, PayloadFormat.CLOUD_API


async def endpoint(
    desk: Desk, url: str, form: PayloadFormat, *, events: Sequence[str] = ("*",), secret: str | None = None
) -> Registered:
    wanted = Registration(target=Target(url), events=events, secret=secret, payload_format=form)
    async with desk.pool.acquire() as connection:
        return await endpoints.create(connection, wanted, sealer=desk.sealer)


def received(server: Server) -> list[tuple[dict[str, str], bytes]]:
    """Headers, by their lower-case names, and body of each request."""
    found = []
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
        found.append(({name.lower(): text for name, _, text in lines}, body))
    return found


async def numbers(pool: Pool, endpoint_id: EndpointId) -> list[tuple[int, str]]:
    rows = await pool.fetch(
        "SELECT sequence, event_type FROM webhook_deliveries WHERE endpoint_id = $1 ORDER BY sequence", endpoint_id
    )
    return [(row["sequence"], row["event_type"]) for row in rows]


async def made(pool: Pool, desk: Desk) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await fan_out(connection, desk.connection_id)


async def on_the_wire(pool: Pool, of: ConnectionId, *, wire_id: str, message_id: str) -> str:
    """A message of ours that left; returns its id."""
    made_id = uuid4()
    await pool.execute(
        "INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, type, payload, status, "
        "wa_message_id) "
        "VALUES ($1, $2, $3, 'outbound', 'api', true, '5511977770002@s.whatsapp.net', 'text', '{}', 'sent', $4)",
        made_id,
        of,
        message_id,
        wire_id,
    )
    return str(made_id)


async def test_each_endpoint_gets_the_same_event_in_its_own_words(desk: Desk, queues: Queues) -> None:
    async with serving() as own, serving() as evolution, serving() as cloud:
        await desk.endpoint(own.url)
        await endpoint(desk, evolution.url, EVOLUTION)
        await endpoint(desk, cloud.url, CLOUD)
        await desk.event("message.received", payload=message())
        await enqueue(queues, fan_out_job(desk.connection_id))

        await drain(queues)

    [(_, theirs)], [(_, metas)], [(_, ours)] = received(evolution), received(cloud), received(own)
    assert json.loads(ours)["event"] == "message.received"
    assert json.loads(theirs)["event"] == "messages.upsert"
    assert json.loads(theirs)["instance"] == "crm-7"
    [change] = json.loads(metas)["entry"][0]["changes"]
    assert change["value"]["metadata"]["phone_number_id"] == "crm-7"
    assert change["value"]["messages"][0]["text"] == {"body": "olá"}


@pytest.mark.parametrize("form", [EVOLUTION, CLOUD])
async def test_every_form_is_signed_as_standard_webhooks_and_holds_no_secret(
    desk: Desk, queues: Queues, form: PayloadFormat
) -> None:
    async with serving() as server:
        secret = (await endpoint(desk, server.url, form)).new_secret
        assert secret is not None
        await desk.event("message.received", payload=message())
        await desk.event("session.status", payload=connection())
        await desk.event("session.qr", payload=connection(qr="2@abc"))
        await enqueue(queues, fan_out_job(desk.connection_id))

        await drain(queues)

    assert received(server)
    for headers, body in received(server):
        Webhook(secret).verify(body, headers)
        assert secret not in body.decode()
        assert secret.removeprefix("whsec_") not in body.decode()
        assert json.loads(body).get("apikey") is None


async def test_a_cloud_api_client_verifies_with_its_app_secret(desk: Desk, queues: Queues) -> None:
    app_secret = "0123456789abcdef0123456789abcdef"
    async with serving() as server, serving() as other:
        await endpoint(desk, server.url, CLOUD, secret=f"whsec_{base64.b64encode(app_secret.encode()).decode()}")
        await endpoint(desk, other.url, EVOLUTION)
        await desk.event("message.received", payload=message())
        await enqueue(queues, fan_out_job(desk.connection_id))

        await drain(queues)

    [(headers, body)], [(others, _)] = received(server), received(other)
    assert headers["x-hub-signature-256"] == f"sha256={hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()}"
    assert "x-hub-signature-256" not in others


async def test_what_a_format_has_no_words_for_takes_no_number(desk: Desk, pool: Pool) -> None:
    cloud = (await endpoint(desk, "https://example.com/cloud", CLOUD)).endpoint
    for type_ in ("message.queued", "message.sent", "message.failed", "message.delivered"):
        await desk.event(type_, payload=sent())
    await desk.event("session.status", payload=connection())

    await made(pool, desk)

    assert await numbers(pool, cloud.id) == [(1, "message.sent"), (2, "message.delivered")]
    assert await pool.fetchval("SELECT count(*) FROM events WHERE fan_out") == 0


async def test_another_format_changes_what_is_made_from_then_on(desk: Desk, pool: Pool) -> None:
    changing = (await desk.endpoint("https://example.com/one")).endpoint
    before = await desk.event("message.received", payload=message())
    await made(pool, desk)
    frozen = await pool.fetchval("SELECT body FROM webhook_deliveries WHERE event_id = $1", before)

    await pool.execute("UPDATE webhook_endpoints SET payload_format = 'evolution' WHERE id = $1", changing.id)
    after = await desk.event("message.received", payload=message())
    await made(pool, desk)

    assert await pool.fetchval("SELECT body FROM webhook_deliveries WHERE event_id = $1", before) == frozen
    body = await pool.fetchval("SELECT body FROM webhook_deliveries WHERE id = $1", delivery_id_of(changing.id, after))
    assert json.loads(body)["event"] == "messages.upsert"


async def test_a_reply_over_the_wire_names_the_message_as_its_sender_knows_it(desk: Desk, pool: Pool) -> None:
    await endpoint(desk, "https://example.com/evolution", EVOLUTION)
    await endpoint(desk, "https://example.com/cloud", CLOUD)
    sent_id = await on_the_wire(pool, desk.connection_id, wire_id="WIRE-1", message_id="order-77")
    elsewhere = await desk.connection()
    await on_the_wire(pool, elsewhere, wire_id="WIRE-2", message_id="of another connection")
    reply: dict[str, Any] = message(payload={"text": "sim", "reply_to": "WIRE-1"})
    stranger: dict[str, Any] = message(payload={"text": "sim", "reply_to": "WIRE-2"})
    for payload in (reply, stranger):
        await desk.event("message.received", payload=payload)

    await made(pool, desk)

    rows = await pool.fetch("SELECT body FROM webhook_deliveries ORDER BY sequence")
    bodies = [json.loads(row["body"]) for row in rows]
    quoted = [one["data"]["contextInfo"]["stanzaId"] for one in bodies if "data" in one]
    contexts = [
        one["entry"][0]["changes"][0]["value"]["messages"][0]["context"]["id"] for one in bodies if "entry" in one
    ]
    assert quoted == ["order-77", "WIRE-2"]
    assert contexts == [wamid(sent_id), wamid("WIRE-2")]


async def test_a_replay_of_what_was_missed_is_in_the_endpoints_words(desk: Desk, pool: Pool) -> None:
    late = (await endpoint(desk, "https://example.com/late", EVOLUTION)).endpoint
    await pool.execute("UPDATE webhook_endpoints SET enabled = false WHERE id = $1", late.id)
    await desk.event("message.received", payload=message())
    await desk.event("message.failed", payload=sent())
    await made(pool, desk)
    now = datetime.now(UTC)

    async with pool.acquire() as held, held.transaction():
        missed = await replay_missed(held, late, since=now - timedelta(hours=1), until=now + timedelta(hours=1))

    assert len(missed.jobs) == 1
    body = await pool.fetchval("SELECT body FROM webhook_deliveries WHERE endpoint_id = $1", late.id)
    assert json.loads(body)["data"]["key"]["id"] == "3EB0AAAA"
