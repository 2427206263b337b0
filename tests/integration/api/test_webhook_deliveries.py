"""Tests, replays and redeliveries asked for by HTTP, through the queue, to a receiver that is there; and their log."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from api.webhook_shapes import Delivery, DeliveryDetail, DeliveryPage, Queued, Replayed
from functions.resources import open_resources
from functions.webhook_delivery import handle
from shared.db.pool import Connection
from shared.domain.jobs import QueueName
from shared.queues.drain import Drain
from shared.queues.registry import Work
from shared.queues.runtime import Queues
from shared.settings import Settings
from shared.webhooks.delivery import on_ended
from tests.integration.api.conftest import Ledger
from tests.integration.api.test_webhook_endpoints import connection_of, key_of
from tests.integration.webhooks.servers import Server, replying, serving

QUEUE = QueueName.WEBHOOK_DELIVERY
WORK = Work(queue=QUEUE, handle=handle, on_ended=on_ended)
REFUSED = b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\n<b>\xff\x00!"
LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_allow_networks": Settings.model_validate(
        {**settings.model_dump(), "webhook_allow_networks": ["127.0.0.0/8"]}).webhook_allow_networks})  # fmt: skip


async def drain(settings: Settings) -> None:
    """Work the webhook queue, as a worker does, until nothing is claimable."""
    async with await Queues.open(settings) as queues, open_resources(queues) as resources, asyncio.timeout(20):
        await Drain(queues, {QUEUE: WORK}, resources, slots={QUEUE: 3}, worker="test").until_idle()


async def make(api: httpx.AsyncClient, url: str, **fields: object) -> dict[str, Any]:
    answer = await api.post("/webhooks", json={"url": url, "events": ["*"], **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def bodies(server: Server) -> list[bytes]:
    return [request.partition(b"\r\n\r\n")[2] for request in server.requests]


async def deliveries_of(api: httpx.AsyncClient, webhook: dict[str, Any], **query: str | int) -> list[dict[str, Any]]:
    answer = await api.get(f"/webhooks/{webhook['id']}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    DeliveryPage.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_test_event_is_signed_and_delivered_through_the_queue(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url, events=["message.sent"], headers={"X-Team": "a"})

        answer = await api.post(f"/webhooks/{webhook['id']}/test")
        await drain(settings)

    Queued.model_validate(answer.json())
    assert answer.status_code == 202
    delivery = answer.json()["delivery"]
    assert (delivery["event"], delivery["status"], delivery["sequence"]) == ("webhook.test", "pending", 1)
    assert answer.json()["job"]["id"] == f"webhook-{delivery['id']}"
    [request] = receiver.requests
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["X-Team"] == "a"
    Webhook(webhook["secret"]).verify(body, headers)
    shown = (await api.get(f"/deliveries/{delivery['id']}")).json()
    DeliveryDetail.model_validate(shown)
    assert shown["body"].encode() == body
    assert (shown["status"], shown["attempt_count"]) == ("delivered", 1)
    [attempt] = shown["attempts"]
    assert (attempt["attempt"], attempt["status"], attempt["error"], attempt["response"]) == (1, 200, None, "ok")


async def test_a_failed_try_shows_status_time_error_and_what_the_receiver_said(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async with serving(replying(REFUSED)) as receiver:
        webhook = await make(api, receiver.url)
        delivery = (await api.post(f"/webhooks/{webhook['id']}/test")).json()["delivery"]
        await drain(settings)

    shown = (await api.get(f"/deliveries/{delivery['id']}")).json()

    DeliveryDetail.model_validate(shown)
    assert (shown["status"], shown["last_status"]) == ("pending", 500)
    assert shown["next_attempt_at"] > shown["created_at"]
    [attempt] = shown["attempts"]
    assert attempt["status"] == 500
    assert attempt["duration_ms"] >= 0
    assert attempt["error"] == {"code": "WEBHOOK_REFUSED", "detail": "the receiver answered 500"}
    assert attempt["error"] == shown["last_error"]
    # Bytes that are no text become U+FFFD; escaping is for whoever shows it.
    assert attempt["response"] == "<b>\ufffd\x00!"


async def test_events_of_connections_are_listed_by_page_and_status(
    api: httpx.AsyncClient, settings: Settings, database: Connection
) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url, events=["session.init_queued"])
        connections = [await connection_of(api, external_id=f"crm-{number}") for number in range(3)]
        await drain(settings)
        await database.execute("UPDATE webhook_deliveries SET status = 'dead' WHERE connection_id = $1", connections[0])

        everything = await deliveries_of(api, webhook)
        first = (await api.get(f"/webhooks/{webhook['id']}/deliveries?limit=2")).json()
        rest = await deliveries_of(api, webhook, limit=2, cursor=first["next_cursor"])
        delivered = await deliveries_of(api, webhook, status="delivered")

    assert [json.loads(body)["event"] for body in bodies(receiver)] == ["session.init_queued"] * 3
    assert {one["connection_id"] for one in everything} == set(connections)
    assert first["data"] + rest == everything
    assert {one["connection_id"] for one in delivered} == set(connections[1:])
    assert sorted(everything, key=lambda one: str(one["created_at"]), reverse=True) == everything


async def test_a_redelivery_sends_the_same_bytes_again_and_counts_on(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url)
        delivery = (await api.post(f"/webhooks/{webhook['id']}/test")).json()["delivery"]
        await drain(settings)

        again = await api.post(f"/deliveries/{delivery['id']}/redeliver")
        await drain(settings)

    Queued.model_validate(again.json())
    assert (again.status_code, again.json()["deduplicated"]) == (202, False)
    assert again.json()["delivery"]["status"] == "delivered"
    assert len(bodies(receiver)) == 2
    assert len(set(bodies(receiver))) == 1
    shown = (await api.get(f"/deliveries/{delivery['id']}")).json()
    assert [attempt["attempt"] for attempt in shown["attempts"]] == [1, 2]


async def test_redelivering_one_that_waits_for_its_next_try_makes_it_due_now(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async with serving(replying(REFUSED)) as receiver:
        webhook = await make(api, receiver.url)
        delivery = (await api.post(f"/webhooks/{webhook['id']}/test")).json()["delivery"]
        await drain(settings)
        assert len(receiver.requests) == 1

        again = [await api.post(f"/deliveries/{delivery['id']}/redeliver") for _ in range(2)]
        await drain(settings)

    assert [one.json()["deduplicated"] for one in again] == [True, True]
    assert len(receiver.requests) == 2


async def test_redelivering_what_was_given_up_gives_it_a_new_budget_in_place_of_the_dead_letter(
    api: httpx.AsyncClient, settings: Settings, database: Connection
) -> None:
    gone = replying(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
    async with serving(gone) as dying, serving() as receiver:
        webhook = await make(api, dying.url)
        delivery = (await api.post(f"/webhooks/{webhook['id']}/test")).json()["delivery"]
        await drain(settings)
        dead = (await api.get(f"/deliveries/{delivery['id']}")).json()
        refused = await api.post(f"/deliveries/{delivery['id']}/redeliver")

        await api.patch(f"/webhooks/{webhook['id']}", json={"url": receiver.url})
        again = await api.post(f"/deliveries/{delivery['id']}/redeliver")
        await drain(settings)

    assert (dead["status"], dead["last_error"]["code"]) == ("dead", "WEBHOOK_GONE")
    assert (refused.status_code, refused.json()["code"]) == (409, "INVALID_STATE")
    assert (again.json()["delivery"]["status"], again.json()["delivery"]["finished_at"]) == ("pending", None)
    assert (await api.get(f"/deliveries/{delivery['id']}")).json()["status"] == "delivered"
    jobs = await database.fetch("SELECT state FROM jobs WHERE name = 'deliver-webhook'")
    assert [row["state"] for row in jobs] == ["completed"]


async def test_a_replay_sends_what_was_made_and_what_was_missed_while_it_was_disabled(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url, events=["session.init_queued"])
        path = f"/webhooks/{webhook['id']}"
        await connection_of(api)
        await drain(settings)
        await api.post(f"{path}/disable")
        await connection_of(api)
        await drain(settings)
        refused = await api.post(f"{path}/replay", json={"since": LONG_AGO})
        await api.post(f"{path}/enable")

        replayed = await api.post(f"{path}/replay", json={"since": LONG_AGO})
        waiting = await api.post(f"{path}/replay", json={"since": LONG_AGO})
        await drain(settings)
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        later = await api.post(f"{path}/replay", json={"since": LONG_AGO, "until": tomorrow})

    Replayed.model_validate(replayed.json())
    assert (refused.status_code, refused.json()["code"]) == (409, "INVALID_STATE")
    assert replayed.status_code == 202
    assert replayed.json() == {"count": 2, "complete": True, "next_cursor": None}
    # The one that was delivered is a fact and stays so; its second sending waits already.
    assert waiting.json()["count"] == 0
    assert later.json()["count"] == 2
    sent = [json.loads(body) for body in bodies(receiver)]
    assert len(sent) == 3
    assert len({one["id"] for one in sent}) == 2


async def test_a_replay_of_another_time_or_of_none_sends_nothing(api: httpx.AsyncClient, settings: Settings) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url, events=["session.init_queued"])
        path = f"/webhooks/{webhook['id']}/replay"
        await connection_of(api)
        await drain(settings)

        before = await api.post(path, json={"since": LONG_AGO, "until": "2020-01-02T00:00:00Z"})
        refused = [
            await api.post(path, json=body)
            for body in (
                {"since": "2020-01-02T00:00:00Z", "until": LONG_AGO},
                {"since": "2999-01-01T00:00:00Z"},
                {"since": 1577836800},
                {"since": "2020-01-01"},
                {},
            )
        ]

    assert before.json() == {"count": 0, "complete": True, "next_cursor": None}
    assert {answer.status_code for answer in refused} == {422}
    assert {answer.json()["errors"][0]["pointer"] for answer in refused} == {"/since"}
    assert len(receiver.requests) == 1


async def test_a_long_replay_says_where_to_go_on(
    api: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as receiver:
        webhook = await make(api, receiver.url)
        path = f"/webhooks/{webhook['id']}"
        for _ in range(5):
            await api.post(f"{path}/test")
        await drain(settings)
        monkeypatch.setattr("api.deliveries._BATCH", 2)
        monkeypatch.setattr("api.deliveries.BUDGET_S", 0)

        answers = [(await api.post(f"{path}/replay", json={"since": LONG_AGO})).json()]
        while not answers[-1]["complete"]:
            body = {"since": LONG_AGO, "cursor": answers[-1]["next_cursor"]}
            answers.append((await api.post(f"{path}/replay", json=body)).json())
        await drain(settings)

    assert [answer["count"] for answer in answers] == [2, 2, 1]
    assert len(receiver.requests) == 10


@pytest.mark.parametrize("how", ["test", "redeliver", "enable", "patch"])
async def test_an_endpoint_that_fails_is_paused_and_a_person_has_it_tried_at_once(
    api: httpx.AsyncClient, settings: Settings, how: str
) -> None:
    async with serving(replying(REFUSED)) as receiver:
        webhook = await make(api, receiver.url)
        path = f"/webhooks/{webhook['id']}"
        for _ in range(14):
            await api.post(f"{path}/test")
        await drain(settings)
        failing = (await api.get(path)).json()
        listed = (await api.get("/webhooks")).json()["data"]
        tried = len(receiver.requests)
        await drain(settings)
        assert len(receiver.requests) == tried < 14

        match how:
            case "redeliver":
                [first, *_] = await deliveries_of(api, webhook, status="pending")
                await api.post(f"/deliveries/{first['id']}/redeliver")
            case "patch":
                await api.patch(path, json={"events": ["message.*"]})
            case _:
                await api.post(f"{path}/{how}")
        after = (await api.get(path)).json()
        await drain(settings)

    assert failing["paused_until"] > failing["failing_since"]
    assert listed == [failing]
    assert after["paused_until"] is None
    assert (after["failing_since"] is None) is (how in {"enable", "patch"})
    assert len(receiver.requests) > tried


async def test_a_disabled_endpoint_is_not_tested(api: httpx.AsyncClient, ledger: Ledger) -> None:
    webhook = await make(api, "http://127.0.0.1:8009/")
    await api.post(f"/webhooks/{webhook['id']}/disable")
    before = await ledger.rows()

    answer = await api.post(f"/webhooks/{webhook['id']}/test")

    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_STATE")
    assert await ledger.rows() == before


async def test_a_limited_key_reaches_the_deliveries_of_its_connections_alone(
    api: httpx.AsyncClient, settings: Settings, database: Connection
) -> None:
    own, other = await connection_of(api), await connection_of(api)
    key = await key_of(api, "webhooks:read", "webhooks:write", connection_ids=[own])
    async with serving() as receiver:
        mine = await make(api, receiver.url, connection_ids=[own])
        # It had both connections once, and has the deliveries of that time still.
        shared = await make(api, receiver.url, connection_ids=[own, other])
        foreign = await make(api, receiver.url, connection_ids=[other])
        for connection in (own, other):
            assert (await api.post(f"/connections/{connection}/stop")).status_code == 202
        await drain(settings)
        await api.patch(f"/webhooks/{shared['id']}", json={"connection_ids": [own]})
        of_other = await database.fetch("SELECT id FROM webhook_deliveries WHERE connection_id = $1", other)
        before = await ledger_of(database)

        hidden = [
            *[await api.get(f"/deliveries/{row['id']}", headers=key) for row in of_other],
            *[await api.post(f"/deliveries/{row['id']}/redeliver", headers=key) for row in of_other],
            await api.get(f"/deliveries/{uuid4()}", headers=key),
            await api.get(f"/webhooks/{foreign['id']}/deliveries", headers=key),
            await api.post(f"/webhooks/{foreign['id']}/test", headers=key),
            await api.post(f"/webhooks/{foreign['id']}/replay", json={"since": LONG_AGO}, headers=key),
        ]
        listed = [(await api.get(f"/webhooks/{one['id']}/deliveries", headers=key)).json() for one in (mine, shared)]
        after = await ledger_of(database)
        reached = await api.post(f"/deliveries/{listed[0]['data'][0]['id']}/redeliver", headers=key)
        # To whatever URL the limited key gives it by now.
        replayed = await api.post(f"/webhooks/{shared['id']}/replay", json={"since": LONG_AGO}, headers=key)
        again = await database.fetch("SELECT data ->> 'sessionId' AS session FROM jobs WHERE data ->> 'again' = 'true'")

    assert len(of_other) == 2
    assert {answer.status_code for answer in hidden} == {404}
    assert before == after
    assert [{delivery["connection_id"] for delivery in page["data"]} for page in listed] == [{own}, {own}]
    assert reached.status_code == 202
    assert replayed.status_code == 202
    assert [row["session"] for row in again] == [own, own]


async def test_a_limited_key_turns_nothing_of_other_connections_aside(
    api: httpx.AsyncClient, settings: Settings, database: Connection
) -> None:
    own, other = await connection_of(api), await connection_of(api)
    key = await key_of(api, "webhooks:write", connection_ids=[own])
    async with serving(replying(REFUSED)) as receiver, serving() as theirs:
        webhook = await make(api, receiver.url, connection_ids=[own, other])
        await api.post(f"/connections/{other}/stop")
        await drain(settings)
        path = f"/webhooks/{webhook['id']}"
        await api.patch(path, json={"connection_ids": [own]})

        turned = await api.patch(path, json={"url": theirs.url}, headers=key)
        changed = await api.patch(path, json={"url": receiver.url, "events": ["*"]}, headers=key)
        await database.execute("UPDATE webhook_deliveries SET status = 'dead'")
        moved = await api.patch(path, json={"url": theirs.url}, headers=key)

    assert (turned.status_code, turned.json()["code"]) == (409, "INVALID_STATE")
    assert (changed.status_code, moved.status_code) == (200, 200)


async def ledger_of(database: Connection) -> list[Any]:
    return await database.fetch("SELECT id, status FROM webhook_deliveries ORDER BY id")


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("webhooks:write", "GET", "/webhooks/{webhook}/deliveries"),
        ("webhooks:write", "GET", "/deliveries/{delivery}"),
        ("webhooks:read", "POST", "/webhooks/{webhook}/test"),
        ("webhooks:read", "POST", "/webhooks/{webhook}/replay"),
        ("webhooks:read", "POST", "/deliveries/{delivery}/redeliver"),
    ],
)
async def test_reading_the_log_and_sending_again_want_a_scope_each(
    api: httpx.AsyncClient, scope: str, method: str, path: str
) -> None:
    webhook = await make(api, "http://127.0.0.1:8009/")
    delivery = (await api.post(f"/webhooks/{webhook['id']}/test")).json()["delivery"]
    key = await key_of(api, scope)

    answer = await api.request(
        method,
        path.format(webhook=webhook["id"], delivery=delivery["id"]),
        headers=key,
        json={"since": LONG_AGO} if path.endswith("replay") else None,
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "query",
    [
        "status=sent",
        "status=",
        "limit=0",
        "limit=201",
        "cursor=x",
        "cursor=" + base64.urlsafe_b64encode(b'["2026-01-01T00:00:00", "x"]').decode().rstrip("="),
        "page=2",
    ],
)
async def test_a_wrong_query_is_refused_by_its_name(api: httpx.AsyncClient, query: str) -> None:
    webhook = await make(api, "http://127.0.0.1:8009/")

    answer = await api.get(f"/webhooks/{webhook['id']}/deliveries?{query}")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"?{query.partition('=')[0]}")


def test_the_list_shows_what_the_detail_shows() -> None:
    assert set(DeliveryDetail.model_fields) - set(Delivery.model_fields) == {"body", "attempts"}
