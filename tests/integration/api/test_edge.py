"""What every request meets: ids, headers, limits, problems for all that HTTP can get wrong."""

from collections.abc import AsyncIterator

import httpx
import pytest

from api import lifecycle
from shared.domain.errors import HostUnreachable
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, Ledger, running


async def test_a_request_id_is_echoed_or_made(api: httpx.AsyncClient) -> None:
    echoed = await api.get("/nowhere", headers={"X-Request-ID": "abc-1"})
    made = [
        (await api.get("/healthz", headers={"X-Request-ID": wrong})) for wrong in ("", "a b", "x" * 200, "<script>")
    ]

    assert echoed.headers["x-request-id"] == echoed.json()["request_id"] == "abc-1"
    assert len({answer.headers["x-request-id"] for answer in made}) == 4


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/nowhere", "/connections"])
async def test_every_answer_has_the_security_headers(api: httpx.AsyncClient, path: str) -> None:
    headers = (await api.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/connections/", 404, "NOT_FOUND"),
        ("GET", "/../etc/passwd", 404, "NOT_FOUND"),
        ("PUT", "/connections", 405, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/connections", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/connections/not-a-uuid", 422, "VALIDATION_ERROR"),
        ("GET", "/connections/%00", 422, "VALIDATION_ERROR"),
        ("GET", "/jobs/a%00b", 404, "NOT_FOUND"),
        ("GET", "/queues/message%3Asend", 200, None),
        ("GET", "/queues/message:send", 200, None),
        ("GET", "/queues/nothing", 404, "NOT_FOUND"),
    ],
)
async def test_paths_and_methods(api: httpx.AsyncClient, method: str, path: str, status: int, code: str | None) -> None:
    answer = await api.request(method, path)

    assert (answer.status_code, answer.json().get("code")) == (status, code)
    if code is not None:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert {"type", "title", "detail", "request_id", "retryable"} <= problem.keys()


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{", 400, "MALFORMED_JSON"),
        ("application/json", b'{"label": NaN}', 400, "MALFORMED_JSON"),
        ("application/json", b'{"label": "\\ud800"}', 400, "MALFORMED_JSON"),
        ("application/json", b'{"label": "a\\u0000"}', 400, "MALFORMED_JSON"),
        ("application/json", b"[" * 100_000, 400, "MALFORMED_JSON"),
        ("application/json", b"null", 422, "VALIDATION_ERROR"),
        ("application/json", b"", 422, "VALIDATION_ERROR"),
        ("application/x-www-form-urlencoded", b"label=a", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("text/plain", b'{"label": "a"}', 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("", b'{"label": "a"}', 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("application/json; charset=utf-8", b'{"label": "a"}', 202, None),
        ("application/vnd.api+json", b'{"label": "a"}', 202, None),
    ],
)
async def test_bodies_and_their_types(
    api: httpx.AsyncClient, ledger: Ledger, content_type: str, body: bytes, status: int, code: str | None
) -> None:
    before = await ledger.rows()

    answer = await api.post("/connections", content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    if code is not None:
        assert await ledger.rows() == before


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_body_over_the_limit_is_refused_before_it_is_parsed(
    api: httpx.AsyncClient, ledger: Ledger, *, is_streamed: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    answer = await api.post(
        "/connections",
        content=chunks() if is_streamed else b" " * 1_048_577,
        headers={"Content-Type": "application/json"},
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert (await ledger.rows())["connections"] == 0


async def test_a_body_at_the_limit_is_read(api: httpx.AsyncClient) -> None:
    body = b'{"label": "a"}'

    answer = await api.post(
        "/connections", content=body + b" " * (1_048_576 - len(body)), headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 202


async def test_a_fault_of_ours_is_a_problem_without_a_trace(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(lifecycle, "create", fail)

    answer = await api.post("/connections", json={"label": "a"}, headers={"X-Request-ID": "r-500"})

    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert answer.json()["request_id"] == "r-500"
    assert "secret inside" not in answer.text
    assert "Traceback" not in answer.text


async def test_an_unreachable_host_is_worth_another_try(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise HostUnreachable("The session's host does not answer.")

    monkeypatch.setattr(lifecycle, "create", fail)

    answer = await api.post("/connections", json={"label": "a"})

    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "HOST_UNREACHABLE", True)
    assert answer.headers["retry-after"] == "1"


async def test_cors_is_closed_unless_it_is_set(settings: Settings) -> None:
    origin = {"Origin": "https://app.example.com"}
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with running(settings) as api:
        assert "access-control-allow-origin" not in (await api.get("/healthz", headers=origin)).headers

    async with running(settings.model_copy(update={"cors_origins": ["https://app.example.com"]})) as api:
        allowed = await api.options("/connections", headers=preflight)
        seen = await api.get("/nowhere", headers=origin)
        other = await api.get("/healthz", headers={"Origin": "https://evil.example"})

    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert seen.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "access-control-allow-origin" not in other.headers


async def test_health_readiness_and_documents_are_open(settings: Settings) -> None:
    async with running(settings, key=None) as api:
        assert (await api.get("/healthz")).json() == {"status": "ok"}
        assert (await api.get("/readyz")).json()["status"] == "ok"
        docs = (await api.get("/docs")).text
        document = (await api.get("/openapi.json")).json()

    assert "/connections/{connection_id}/qr" in docs
    assert "<script" not in docs
    assert '="http' not in docs, "nothing is loaded from elsewhere"
    assert document["paths"]["/connections"]["post"]["requestBody"]


async def test_without_its_bell_it_is_degraded_and_still_accepts(settings: Settings) -> None:
    away = settings.model_copy(update={"transport": "redis", "redis_url": "redis://127.0.0.1:1"})

    async with running(away) as api:
        ready = await api.get("/readyz")
        accepted = await api.post("/connections", json={"label": "a"})

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert accepted.status_code == 202


async def test_the_admin_key_never_reaches_the_log(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(settings) as api:
        await api.post(
            "/connections", json={"label": "confidential", "pairing": {"method": "code", "phone": "5511987654321"}}
        )
        await api.get("/connections?external_id=5511987654321")

    written = capsys.readouterr().out
    assert "http_request_ended" in written
    for secret in (ADMIN_KEY, "5511987654321", "confidential"):
        assert secret not in written
