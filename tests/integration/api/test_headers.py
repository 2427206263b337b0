"""The headers of every answer: what browsers may do with it, and which pages may ask for it."""

import httpx
import pytest

from shared.settings import Settings
from tests.integration.api.conftest import running

_ORIGIN = "https://app.example.com"
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


async def _every_kind(api: httpx.AsyncClient) -> list[httpx.Response]:
    return [
        await api.get("/healthz"),
        await api.get("/connections"),
        await api.get("/nowhere"),
        await api.get("/docs"),
        await api.get("/errors/NOT_FOUND"),
        await api.get("/openapi.json"),
        await api.get("/metrics"),
        await api.post("/connections", content=b"{", headers={"Content-Type": "application/json"}),
        await api.post("/connections", content=b" " * 1_048_577, headers={"Content-Type": "application/json"}),
        await api.get("/connections", headers={"Authorization": "Bearer wrong"}),
        await api.options("/connections"),
    ]


async def test_every_answer_is_dressed(api: httpx.AsyncClient) -> None:
    for answer in await _every_kind(api):
        assert _ALWAYS.items() <= dict(answer.headers).items(), answer.url
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert answer.headers["x-request-id"]
        assert "strict-transport-security" not in answer.headers
        assert "set-cookie" not in answer.headers


async def test_whoever_comes_by_https_is_told_to_keep_to_it(settings: Settings) -> None:
    async with running(settings.model_copy(update={"public_url": "https://api.example.com"})) as api:
        answers = await _every_kind(api)

    assert {answer.headers["strict-transport-security"] for answer in answers} == {
        "max-age=31536000; includeSubDomains"
    }


@pytest.mark.parametrize("wanted", ["last-event-id", "idempotency-key", "prefer", "authorization", "x-api-key"])
async def test_a_page_of_an_allowed_origin_may_send_what_the_api_reads(settings: Settings, wanted: str) -> None:
    async with running(settings.model_copy(update={"cors_origins": [_ORIGIN]})) as api:
        preflight = await api.options(
            "/events/stream",
            headers={
                "Origin": _ORIGIN,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": wanted,
            },
        )

    assert preflight.status_code == 200
    assert wanted in preflight.headers["access-control-allow-headers"].lower()
    assert preflight.headers["access-control-allow-origin"] == _ORIGIN
    assert _ALWAYS.items() <= dict(preflight.headers).items()


async def test_a_page_may_read_what_it_needs_and_never_with_cookies(settings: Settings) -> None:
    async with running(settings.model_copy(update={"cors_origins": [_ORIGIN]})) as api:
        answers = [
            await api.get("/connections", headers={"Origin": _ORIGIN, "Cookie": "a=b"}),
            await api.get("/nowhere", headers={"Origin": _ORIGIN}),
            await api.post("/connections", content=b" " * 1_048_577, headers={"Origin": _ORIGIN}),
        ]
        stranger = await api.get("/connections", headers={"Origin": "https://evil.example"})
        preflight = await api.options(
            "/connections",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"},
        )

    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == _ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("ratelimit", "retry-after", "x-request-id", "last-event-id"))
    assert "access-control-allow-origin" not in stranger.headers
    assert "access-control-allow-origin" not in preflight.headers
    assert preflight.status_code == 400


@pytest.mark.parametrize("origin", ["null", "https://app.example.com.evil.example", "http://app.example.com", "*"])
async def test_what_only_looks_like_an_allowed_origin_is_not(settings: Settings, origin: str) -> None:
    async with running(settings.model_copy(update={"cors_origins": [_ORIGIN]})) as api:
        answer = await api.get("/connections", headers={"Origin": origin})

    assert "access-control-allow-origin" not in answer.headers
