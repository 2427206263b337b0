"""One delivery after another to a real receiver: what it gets, what its answer does, and what is written down."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from shared import log
from shared.db import webhook_deliveries as deliveries
from shared.db import webhooks
from shared.db.pool import Pool
from shared.db.writes import apply
from shared.domain.errors import Conflict, InvalidInput, NotFound
from shared.domain.ids import ConnectionId, DeliveryId
from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry, Snooze
from shared.domain.webhook import DeliveryStatus, EndDelivery
from shared.egress.target import Rule, Target
from shared.sealing import Sealer
from shared.webhooks import endpoints
from shared.webhooks.client import SafeClient
from shared.webhooks.delivery import Courier, on_ended
from shared.webhooks.fan_out import fan_out
from tests.integration.webhooks.conftest import Desk

pytestmark = pytest.mark.usefixtures("_settings")

SCHEDULE = (10.0, 30.0, 90.0)
Answer = Callable[[int], web.Response]


@dataclass
class Sink:
    """A receiver that answers as `answer` says for its n-th request and keeps what it got."""

    url: str = ""
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    answer: Answer = lambda _number: web.Response(status=204)

    async def receive(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return self.answer(len(self.got))


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@dataclass
class Post:
    """Runs delivery jobs as a worker does: the handler, then its writes in one transaction."""

    pool: Pool
    desk: Desk
    courier: Courier
    clock: list[datetime]

    async def deliver(
        self, job: NewJob | DeliveryId, *, attempt: int = 1, stalled: int = 0, again: bool = False
    ) -> Outcome:
        delivery_id = DeliveryId(UUID(job.data["deliveryId"])) if isinstance(job, NewJob) else job
        claimed = Job(
            pk=1,
            job_id=f"webhook-{delivery_id}",
            queue=QueueName.WEBHOOK_DELIVERY,
            name="deliver-webhook",
            data={"deliveryId": str(delivery_id), **({"again": True} if again else {})},
            attempt=attempt,
            max_attempts=len(SCHEDULE) + 1,
            stalled=stalled,
            fence=1,
            group=None,
            order_key=None,
            priority=3,
            created_at=self.clock[0],
        )
        outcome = await self.courier.deliver(claimed, delivery_id)
        writes = outcome.writes
        if isinstance(outcome, Retry) and claimed.is_last_attempt:
            writes = outcome.last_writes
        async with self.pool.acquire() as connection, connection.transaction():
            await apply(connection, writes)
        return outcome

    async def fan_out(self) -> list[NewJob]:
        async with self.pool.acquire() as connection, connection.transaction():
            return (await fan_out(connection, self.desk.connection_id)).jobs

    async def row(self) -> Mapping[str, Any]:
        row = await self.pool.fetchrow(
            "SELECT status, attempts, last_status, last_error, next_attempt_at IS NOT NULL AS is_due, "
            "finished_at IS NOT NULL AS is_finished FROM webhook_deliveries ORDER BY created_at LIMIT 1"
        )
        assert row is not None
        return dict(row)

    async def log(self) -> list[tuple[str, bool]]:
        rows = await self.pool.fetch("SELECT type, fan_out FROM events WHERE category = 'webhook' ORDER BY position")
        return [(row["type"], row["fan_out"]) for row in rows]


@pytest.fixture
async def post(desk: Desk, pool: Pool, client: SafeClient) -> Post:
    clock = [datetime.now(UTC)]
    courier = Courier(
        pool=pool,
        client=client,
        sealer=desk.sealer,
        delay_s=lambda attempt: SCHEDULE[min(attempt, len(SCHEDULE)) - 1],
        now=lambda: clock[0],
        jitter=lambda: 1.0,
    )
    return Post(pool=pool, desk=desk, courier=courier, clock=clock)


# ---- what the receiver gets


async def test_the_receiver_verifies_it_with_the_standard_library_and_finds_the_contracts_headers(
    desk: Desk, post: Post, sink: Sink
) -> None:
    made = await desk.endpoint(sink.url, headers={"Authorization": "Bearer abc"})
    await desk.event("message.sent")
    [job] = await post.fan_out()

    outcome = await post.deliver(job)

    assert isinstance(outcome, Done)
    [(headers, body)] = sink.got
    assert made.new_secret is not None
    content = Webhook(made.new_secret).verify(body, dict(headers))
    assert headers["webhook-id"] == content["id"] == headers["X-ZapHub-Delivery"]
    assert headers["X-ZapHub-Event"] == content["event"] == "message.sent"
    assert headers["X-ZapHub-Session"] == content["sessionId"] == str(desk.connection_id)
    assert headers["X-ZapHub-Attempt"] == "1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer abc"
    assert headers["User-Agent"].startswith("ZapHub")
    assert await post.row() == {
        "status": "delivered",
        "attempts": 1,
        "last_status": 204,
        "last_error": None,
        "is_due": False,
        "is_finished": True,
    }
    assert await post.log() == [("webhook.delivered", False)]


async def test_every_attempt_sends_the_same_bytes_with_a_fresh_timestamp_and_signature(
    desk: Desk, post: Post, sink: Sink
) -> None:
    secret = (await desk.endpoint(sink.url)).new_secret
    sink.answer = lambda number: web.Response(status=204 if number == 3 else 500)
    await desk.event(payload={"text": "olá", "metadata": {"amount": 1.10}})
    [job] = await post.fan_out()

    for attempt in (1, 2, 3):
        await post.deliver(job, attempt=attempt)
        post.clock[0] += timedelta(seconds=40)

    assert len({body for _, body in sink.got}) == 1
    assert len({headers["webhook-id"] for headers, _ in sink.got}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in sink.got}) == 3
    assert [headers["X-ZapHub-Attempt"] for headers, _ in sink.got] == ["1", "2", "3"]
    assert secret is not None
    for headers, body in sink.got:
        Webhook(secret).verify(body, dict(headers))


async def test_url_and_secret_are_those_that_hold_when_it_is_sent(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    old = await desk.own_endpoint("http://127.0.0.1:8009/gone")
    await desk.event()
    [job] = await post.fan_out()

    async with pool.acquire() as connection, connection.transaction():
        await endpoints.set_for_connection(connection, desk.connection_id, Target(sink.url), sealer=desk.sealer)
        new = await endpoints.rotate_secret(connection, old.endpoint.id, sealer=desk.sealer, now=post.clock[0])
    await post.deliver(job)

    [(headers, body)] = sink.got
    assert old.new_secret is not None
    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(old.new_secret).verify(body, dict(headers))
    Webhook(new).verify(body, dict(headers))


async def test_the_old_secret_stops_signing_when_its_grace_is_over(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    made = await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()

    async with pool.acquire() as connection, connection.transaction():
        at = post.clock[0] - endpoints.ROTATION_GRACE
        await endpoints.rotate_secret(connection, made.endpoint.id, sealer=desk.sealer, now=at)
    await post.deliver(job)

    [(headers, body)] = sink.got
    assert made.new_secret is not None
    with pytest.raises(WebhookVerificationError):
        Webhook(made.new_secret).verify(body, dict(headers))


# ---- what the answer does


async def test_after_a_change_of_the_secret_key_a_rotation_without_grace_and_new_headers_go_on(
    desk: Desk, post: Post, sink: Sink
) -> None:
    made = await desk.endpoint(sink.url, headers={"Authorization": "Bearer abc"})
    await desk.event()
    [job] = await post.fan_out()
    changed = Sealer(SecretStr("the key that came after it"))
    post.courier = replace(post.courier, sealer=changed)
    waits = await post.deliver(job)

    async with desk.pool.acquire() as connection, connection.transaction():
        with pytest.raises(Conflict, match="grace_seconds"):
            await endpoints.rotate_secret(connection, made.endpoint.id, sealer=changed, now=post.clock[0])
        secret = await endpoints.rotate_secret(
            connection, made.endpoint.id, sealer=changed, now=post.clock[0], grace=timedelta(0)
        )
        await endpoints.change(connection, made.endpoint, sealer=changed, headers={"Authorization": "Bearer def"})
    done = await post.deliver(job)

    assert isinstance(waits, Snooze), "no try is lost meanwhile"
    assert isinstance(done, Done)
    [(headers, body)] = sink.got
    Webhook(secret).verify(body, headers)
    assert headers["Authorization"] == "Bearer def"


async def test_500s_are_tried_by_the_schedule_and_then_the_delivery_is_dead(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    sink.answer = lambda _number: web.Response(status=500, body=b"\xff" + b"e" * 5000)
    await desk.event()
    [job] = await post.fan_out()

    delays = []
    for attempt in (1, 2, 3, 4):
        outcome = await post.deliver(job, attempt=attempt)
        assert isinstance(outcome, Retry)
        delays.append(outcome.delay_s)
        row = await post.row()
        assert row["status"] == ("dead" if attempt == 4 else "pending")
        assert row["is_due"] == (attempt < 4)

    assert delays == [10, 30, 90, 90]
    row = await post.row()
    assert (row["attempts"], row["last_status"]) == (4, 500)
    assert row["last_error"] == "WEBHOOK_REFUSED: the receiver answered 500"
    kept = await post.pool.fetch("SELECT attempt, status, response FROM webhook_attempts ORDER BY attempt")
    assert [(one["attempt"], one["status"]) for one in kept] == [(1, 500), (2, 500), (3, 500), (4, 500)]
    assert kept[0]["response"] == b"\xff" + b"e" * 2047
    assert await post.log() == [("webhook.failed", False)] * 4


async def test_429_waits_as_long_as_the_receiver_asks(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    sink.answer = lambda _number: web.Response(status=429, headers={"Retry-After": "120"})
    await desk.event()
    [job] = await post.fan_out()

    outcome = await post.deliver(job)

    assert isinstance(outcome, Retry)
    assert outcome.delay_s == 120


async def test_a_redirect_is_a_failure(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    sink.answer = lambda _number: web.Response(status=307, headers={"Location": sink.url})
    await desk.event()
    [job] = await post.fan_out()

    outcome = await post.deliver(job)

    assert isinstance(outcome, Retry)
    assert outcome.failure.code == "WEBHOOK_REDIRECTED"
    assert len(sink.got) == 1


async def test_410_disables_the_endpoint_tells_the_others_and_cancels_what_waits(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    gone = (await desk.endpoint(sink.url, events=["message.*"])).endpoint
    await desk.endpoint("https://watcher.example/", events=["webhook.disabled"])
    sink.answer = lambda _number: web.Response(status=410)
    await desk.event()
    await desk.event()
    first, second = await post.fan_out()

    assert isinstance(await post.deliver(first), Discard)
    canceled = await post.deliver(second)

    assert isinstance(canceled, Discard)
    assert canceled.failure is None
    assert len(sink.got) == 1
    statuses = await pool.fetch("SELECT status FROM webhook_deliveries ORDER BY sequence")
    assert [row["status"] for row in statuses] == ["dead", "canceled"]
    assert await post.log() == [("webhook.failed", False), ("webhook.disabled", True)]
    assert len(await post.fan_out()) == 1
    row = await pool.fetchrow("SELECT enabled, disabled_reason FROM webhook_endpoints WHERE id = $1", gone.id)
    assert row is not None
    assert (row["enabled"], row["disabled_reason"]) == (False, "the receiver answered 410 Gone")


async def test_a_410_of_the_old_url_does_not_disable_the_new_one(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    own = await desk.own_endpoint(sink.url)
    sink.answer = lambda _number: web.Response(status=410)
    await desk.event()
    [job] = await post.fan_out()

    outcome = await post.deliver(job)
    await pool.execute(
        "UPDATE webhook_endpoints SET enabled = true, url = 'https://new.example/' WHERE id = $1",
        own.endpoint.id,
    )
    async with pool.acquire() as connection:
        await apply(connection, outcome.writes)

    assert await pool.fetchval("SELECT enabled FROM webhook_endpoints")


async def test_a_delivery_that_was_canceled_while_it_was_tried_does_not_wait_again(
    desk: Desk, post: Post, sink: Sink
) -> None:
    await desk.endpoint(sink.url)
    sink.answer = lambda _: web.Response(status=500)
    await desk.event()
    [job] = await post.fan_out()
    failed = await post.deliver(job)
    delivery_id = DeliveryId(UUID(job.data["deliveryId"]))
    cancel = EndDelivery(delivery_id=delivery_id, after=DeliveryStatus.CANCELED, reason="canceled on request")

    async with post.pool.acquire() as connection, connection.transaction():
        await apply(connection, [cancel])
        await apply(connection, failed.writes)

    row = await post.row()
    assert (row["status"], row["is_due"], row["is_finished"]) == ("canceled", False, True)


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_a_delivery_whose_endpoint_went_away_is_canceled_and_never_sent(
    desk: Desk, pool: Pool, post: Post, sink: Sink, how: str
) -> None:
    endpoint = (await desk.endpoint(sink.url)).endpoint
    await desk.event()
    [job] = await post.fan_out()

    async with pool.acquire() as connection:
        if how == "disabled":
            await webhooks.set_enabled(connection, endpoint.id, enabled=False, reason="by hand")
        else:
            await webhooks.delete(connection, endpoint.id)
    outcome = await post.deliver(job)

    assert isinstance(outcome, Discard)
    assert sink.got == []
    assert (await post.row())["status"] == "canceled"


async def test_a_forbidden_address_is_a_recorded_failure_that_may_pass(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()

    async with SafeClient(Rule(allow=(ip_network("10.0.0.0/8"),)), timeout_s=5) as strict:
        strict_post = Post(
            pool=pool,
            desk=desk,
            courier=Courier(pool=pool, client=strict, sealer=desk.sealer, delay_s=lambda _attempt: 10),
            clock=post.clock,
        )
        outcome = await strict_post.deliver(job)

    assert isinstance(outcome, Retry)
    assert outcome.failure.code == "WEBHOOK_TARGET_FORBIDDEN"
    assert sink.got == []
    row = await post.row()
    assert row["status"] == "pending"
    assert "127.0.0.1" not in row["last_error"]


# ---- twice, and again


async def test_writing_an_outcome_twice_changes_nothing(desk: Desk, pool: Pool, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()
    outcome = await post.deliver(job)
    before = await post.row()

    async with pool.acquire() as connection:
        await apply(connection, outcome.writes)

    assert await post.row() == before
    assert await post.log() == [("webhook.delivered", False)]
    assert await pool.fetchval("SELECT count(*) FROM webhook_attempts") == 1


async def test_a_job_that_runs_again_after_its_delivery_sends_nothing(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()

    await post.deliver(job)
    again = await post.deliver(job, attempt=2)

    assert isinstance(again, Done)
    assert len(sink.got) == 1


async def test_a_redelivery_sends_the_same_bytes_and_goes_on_counting(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    sink.answer = lambda number: web.Response(status=204 if number != 2 else 500)
    await desk.event()
    [job] = await post.fan_out()

    await post.deliver(job)
    await post.deliver(job, again=True)

    assert len({body for _, body in sink.got}) == 1
    assert [headers["X-ZapHub-Attempt"] for headers, _ in sink.got] == ["1", "2"]
    assert (await post.row())["status"] == "delivered"
    assert (await post.row())["attempts"] == 2


async def test_a_try_that_died_with_its_worker_is_counted_by_its_job(desk: Desk, post: Post, sink: Sink) -> None:
    await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()
    sink.answer = lambda _number: web.Response(status=500)

    outcome = await post.deliver(job, attempt=3, stalled=2)

    assert sink.got[0][0]["X-ZapHub-Attempt"] == "3"
    assert isinstance(outcome, Retry)
    assert outcome.delay_s == SCHEDULE[0], "the receiver refused once"


async def test_a_job_that_ended_without_its_handler_leaves_a_dead_delivery(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    await desk.endpoint(sink.url)
    await desk.event()
    [job] = await post.fan_out()

    async with pool.acquire() as connection:
        await apply(connection, on_ended(job.data, Failure(code="STALLED", detail="its workers died")))

    assert (await post.row())["status"] == "dead"
    assert on_ended({"sessionId": "x"}, Failure(code="STALLED", detail="")) == ()


async def test_a_job_whose_delivery_retention_took_is_discarded(post: Post) -> None:
    assert isinstance(await post.deliver(DeliveryId(post.desk.connection_id)), Discard)


# ---- what is nowhere


async def test_no_secret_header_or_url_is_in_jobs_logs_deliveries_or_in_the_clear_at_rest(
    desk: Desk, pool: Pool, post: Post, sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(level="info", fmt="json")
    made = await desk.endpoint(sink.url, headers={"Authorization": "Bearer hunter2"})
    sink.answer = lambda number: web.Response(status=500 if number == 1 else 410)
    await desk.event(payload={"text": "private words"})

    jobs = await post.fan_out()
    await post.deliver(jobs[0])
    await post.deliver(jobs[0], attempt=2)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert made.new_secret is not None
    secret = made.new_secret.removeprefix("whsec_")
    stored = await pool.fetch(
        "SELECT d::text || convert_from(d.body, 'UTF8') AS row FROM webhook_deliveries d UNION ALL "
        "SELECT a::text FROM webhook_attempts a UNION ALL SELECT e::text FROM webhook_endpoints e UNION ALL "
        "SELECT v::text FROM events v"
    )
    at_rest = "".join(row["row"] for row in stored)
    said = json.dumps([job.data for job in jobs], default=str) + json.dumps(lines, default=str)
    for hidden in (secret, "hunter2"):
        assert hidden not in at_rest + said + repr(made)
    for quiet in (sink.url, "private words"):
        assert quiet not in said
    assert {line["msg"] for line in lines} == {"webhook_failed"}


# ---- to a URL that nobody registered


async def send(desk: Desk, url: str, **changes: Any) -> NewJob:
    arguments: dict[str, Any] = {
        "connection_id": desk.connection_id,
        "url": url,
        "event_type": "message.received",
        "payload": {"text": "oi"},
        "sealer": desk.sealer,
    }
    async with desk.pool.acquire() as connection, connection.transaction():
        return await deliveries.send_to_url(connection, **arguments | changes)


async def test_a_url_that_nobody_registered_gets_a_signed_webhook_and_its_job_holds_neither_url_nor_secret(
    desk: Desk, pool: Pool, post: Post, sink: Sink
) -> None:
    first = await send(desk, sink.url, priority=7)
    second = await send(desk, sink.url)

    await post.deliver(first)
    await post.deliver(second)

    assert first.priority == 7
    assert "127.0.0.1" not in json.dumps(dict(first.data))
    assert [json.loads(body)["sequence"] for _, body in sink.got] == [1, 2]
    assert json.loads(sink.got[0][1])["payload"] == {"text": "oi"}
    assert "webhook-signature" in sink.got[0][0]
    row = await pool.fetchrow("SELECT count(*) AS n, max(events::text) AS events FROM webhook_endpoints")
    assert row is not None
    assert (row["n"], row["events"]) == (1, "{}")


async def test_an_endpoint_without_subscription_gets_no_events(desk: Desk, post: Post, sink: Sink) -> None:
    await send(desk, sink.url)
    await desk.event()

    assert await post.fan_out() == []


async def test_a_connections_own_url_is_signed_with_the_secret_that_its_receiver_knows(
    desk: Desk, post: Post, sink: Sink
) -> None:
    await desk.endpoint(sink.url)
    own = await desk.own_endpoint(sink.url)

    await post.deliver(await send(desk, sink.url))

    [(headers, body)] = sink.got
    assert own.new_secret is not None
    Webhook(own.new_secret).verify(body, dict(headers))


async def test_a_one_off_of_an_unknown_connection_or_with_what_cannot_be_sent_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await send(desk, "https://example.com/", connection_id=ConnectionId(UUID(int=9)))
    for wrong in (
        {"event_type": "a\r\nb"},
        {"event_type": ""},
        {"payload": {"x": float("nan")}},
        {"payload": {"x": object()}},
    ):
        with pytest.raises(InvalidInput):
            await send(desk, "https://example.com/", **wrong)


async def test_a_test_of_an_endpoint_needs_no_session(desk: Desk, pool: Pool, post: Post, sink: Sink) -> None:
    endpoint = (await desk.endpoint(sink.url)).endpoint

    async with pool.acquire() as connection, connection.transaction():
        [job] = await deliveries.send_to_endpoint(
            connection, endpoint.id, connection_id=None, event_type="webhook.test", payload={}
        )
    await post.deliver(job)

    [(headers, body)] = sink.got
    assert "X-ZapHub-Session" not in headers
    assert json.loads(body)["sessionId"] is None
