"""How much may be asked for: by a key, by an address with wrong keys, by everybody at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from api import lifecycle
from api.app import create_app
from api.rate_limit import RateLimit
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, Ledger, running

_KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
_WRONG = {"Authorization": "Bearer zh_wrong"}


class Clock:
    """Stands still, so that nothing is refilled while a test asks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limited(
    settings: Settings, *, clock: Clock, peer: str = "192.0.2.1", **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with these settings, whose limits go by `clock`; every request comes from `peer`."""
    app = create_app(settings.model_copy(update=limits))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 1)), base_url="http://api.test") as client,
    ):
        door = app.state.door
        door.per_key = RateLimit(door.per_key.per_minute, clock=clock)
        door.failures = RateLimit(door.failures.per_minute, clock=clock)
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_two_hundred_at_once_get_exactly_their_quota(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_rate_per_minute=50) as api:
        answers = await asyncio.gather(*(api.get("/queues/none", headers=_KEY) for _ in range(200)))

    by_status = [answer.status_code for answer in answers]
    assert (by_status.count(404), by_status.count(429)) == (50, 150)


async def test_answers_say_what_is_left_and_a_refusal_when_to_come_back(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_rate_per_minute=2) as api:
        first = await api.get("/connections", headers=_KEY)
        await api.get("/connections", headers=_KEY)
        refused = await api.get("/connections", headers=_KEY)
        clock.now += int(refused.headers["retry-after"])
        again = await api.get("/connections", headers=_KEY)

    assert first.headers["ratelimit-policy"] == '"key";q=2;w=60'
    assert first.headers["ratelimit"] == '"key";r=1;t=30'
    assert (refused.status_code, refused.json()["code"], refused.json()["retryable"]) == (429, "RATE_LIMITED", True)
    assert refused.headers["ratelimit"] == '"key";r=0;t=60'
    assert refused.headers["retry-after"] == "30"
    assert again.status_code == 200


async def test_a_batch_costs_what_it_holds(settings: Settings, clock: Clock, ledger: Ledger) -> None:
    async with limited(settings, clock=clock, api_rate_per_minute=20) as api:
        made = (await api.post("/connections", json={"label": "a"}, headers=_KEY)).json()["connection"]["id"]
        messages = [{"to": "5511987654321", "type": "text", "payload": {"text": str(n)}} for n in range(12)]
        accepted = await api.post(f"/connections/{made}/send/batch", json={"messages": messages}, headers=_KEY)
        refused = await api.post(f"/connections/{made}/send/batch", json={"messages": messages}, headers=_KEY)
        single = await api.post(f"/connections/{made}/send", json=messages[0], headers=_KEY)

    assert accepted.headers["ratelimit"].startswith('"key";r=7;')
    assert (refused.status_code, single.status_code) == (429, 202)
    assert (await ledger.rows())["messages"] == 13


async def test_each_key_has_a_quota_of_its_own(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_rate_per_minute=2) as api:
        made = await api.post("/api-keys", json={"name": "k", "scopes": ["admin"]}, headers=_KEY)
        other = {"X-API-Key": made.json()["key"]}
        await api.get("/connections", headers=_KEY)

        assert (await api.get("/connections", headers=_KEY)).status_code == 429
        assert (await api.get("/connections", headers=other)).status_code == 200


async def test_zero_is_no_limit_and_no_header(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_rate_per_minute=0) as api:
        answers = [await api.get("/queues/none", headers=_KEY) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {404}
    assert "ratelimit" not in answers[0].headers


async def test_an_address_with_too_many_wrong_keys_is_refused_before_they_are_looked_up(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited(settings, clock=clock, api_auth_failures_per_minute=3) as api:
        first = [await api.get("/connections", headers=_WRONG) for _ in range(3)]

        async def look_up(*_: object) -> None:
            raise AssertionError("the key was looked up")

        monkeypatch.setattr("shared.queues.together.Together.call", look_up)
        refused = await api.get("/connections", headers=_WRONG)

    assert {answer.status_code for answer in first} == {401}
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "20"


async def test_who_shares_the_address_of_a_stranger_is_not_shut_out(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_auth_failures_per_minute=2) as api:
        made = (await api.post("/api-keys", json={"name": "k", "scopes": ["admin"]}, headers=_KEY)).json()
        own = {"X-API-Key": made["key"]}
        assert (await api.get("/connections", headers=own)).status_code == 200
        for _ in range(5):
            await api.get("/connections", headers=_WRONG)

        assert (await api.get("/connections", headers=_WRONG)).status_code == 429
        assert (await api.get("/connections", headers=own)).status_code == 200
        await api.delete(f"/api-keys/{made['id']}", headers=_KEY)
        assert (await api.get("/connections", headers=own)).status_code in {401, 429}


async def test_wrong_tickets_are_counted_too(settings: Settings, clock: Clock) -> None:
    async with limited(settings, clock=clock, api_auth_failures_per_minute=2) as api:
        answers = [await api.get("/events/stream?ticket=zt_wrong") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]


@pytest.mark.parametrize(
    ("peer", "trusted", "statuses"),
    [
        # Nobody is trusted: a stranger that invents addresses is one stranger.
        ("192.0.2.1", [], [401, 401, 429]),
        ("192.0.2.1", ["10.0.0.0/8"], [401, 401, 429]),
        # Our proxy says who asks: they are three.
        ("10.0.0.1", ["10.0.0.0/8"], [401, 401, 401]),
    ],
)
async def test_an_address_is_believed_from_a_trusted_proxy_only(
    settings: Settings, clock: Clock, peer: str, trusted: list[str], statuses: list[int]
) -> None:
    chosen = Settings.model_validate({**settings.model_dump(), "trusted_proxies": trusted})
    async with limited(chosen, clock=clock, peer=peer, api_auth_failures_per_minute=2) as api:
        answers = [
            await api.get("/connections", headers={**_WRONG, "X-Forwarded-For": f"203.0.113.{number}"})
            for number in range(3)
        ]

    assert [answer.status_code for answer in answers] == statuses


async def test_too_many_at_once_are_told_so_at_once_and_those_inside_are_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    create = lifecycle.create

    async def slow(*arguments: Any) -> Any:
        inside.set()
        await go_on.wait()
        return await create(*arguments)

    monkeypatch.setattr(lifecycle, "create", slow)
    async with running(settings.model_copy(update={"api_max_in_flight": 1})) as api:
        async with asyncio.TaskGroup() as group:
            served = group.create_task(api.post("/connections", json={"label": "a"}))
            await inside.wait()
            refused = await api.post("/connections", json={"label": "b"})
            alive = await api.get("/readyz")
            go_on.set()
        answer = served.result()
        after = await api.get("/connections")

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "UNAVAILABLE", "1")
    assert (alive.status_code, answer.status_code, after.status_code) == (200, 202, 200)
    assert (await ledger.rows())["connections"] == 1
