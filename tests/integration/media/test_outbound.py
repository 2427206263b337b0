"""The file of an outbound message: judged when it is accepted, stored before the first try, the same on every try."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from functions.resources import Resources, begin_tries
from shared.db.pool import Connection
from shared.hosts import protocol
from shared.media import open_media
from shared.queues.runtime import Queues
from shared.queues.together import Together
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, running
from tests.integration.sending.conftest import HOST, Office, ScriptedHost, sent
from tests.integration.webhooks.servers import LOOPBACK, Play, replying, serving

PNG = b"\x89PNG\r\n\x1a\n" + bytes(3000)
OGG = b"OggS\0\2" + bytes(22) + b"OpusHead" + bytes(100)
HTML = b"<!doctype html><p>Not found</p>"
TO = "5511987654321"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        data_dir=tmp_path,
        media_max_bytes=100_000,
        media_fetch_timeout_s=5,
        webhook_allow_networks=LOOPBACK,
        db_pool_size=8,
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


@pytest.fixture
async def connection_id(api: httpx.AsyncClient) -> str:
    return str((await api.post("/connections", json={"label": "Shop"})).json()["connection"]["id"])


@pytest.fixture
async def office(settings: Settings) -> AsyncIterator[Office]:
    async with await Queues.open(settings) as queues, open_media(settings, queues.pool) as media:
        await queues.pool.execute(
            "INSERT INTO hosts (id, address, capacity) VALUES ($1, 'http://127.0.0.1:9', 9)", HOST
        )
        await queues.pool.execute("UPDATE queues SET rate_per_minute = 0 WHERE name = 'message:send'")
        host = ScriptedHost()
        use = SimpleNamespace(
            settings=settings,
            pool=queues.pool,
            queues=queues,
            now=lambda: datetime.now(UTC),
            hosts=host,
            media=media,
            tries=Together(queues.pool, begin_tries),
        )
        yield Office(queues, host, cast("Resources", use))


async def send(api: httpx.AsyncClient, connection_id: str, type_: str, **fields: Any) -> httpx.Response:
    body = {"to": TO, "type": type_, **fields}
    return await api.post(f"/connections/{connection_id}/send", json=body)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def upload(api: httpx.AsyncClient, data: bytes, **params: str) -> str:
    return str((await api.post("/media", content=data, params=params)).json()["id"])


# ---- at the door


async def test_base64_becomes_a_media_id_at_once(
    api: httpx.AsyncClient, connection_id: str, database: Connection
) -> None:
    payload = {"base64": encoded(PNG), "caption": "look", "filename": "cat.png"}

    answer = await send(api, connection_id, "image", payload=payload)

    assert answer.status_code == 202, answer.text
    said = answer.json()["message"]["payload"]
    assert said == {"caption": "look", "filename": "cat.png", "media_id": said["media_id"]}
    fetched = await api.get(f"/media/{said['media_id']}")
    assert (fetched.content, fetched.headers["content-type"]) == (PNG, "image/png")
    assert await database.fetchval("SELECT connection_id::text FROM media") == connection_id


async def test_the_same_request_again_is_the_same_message(
    api: httpx.AsyncClient, connection_id: str, database: Connection
) -> None:
    fields = {"message_id": "order-7", "payload": {"base64": encoded(PNG)}}

    first = (await send(api, connection_id, "image", **fields)).json()
    again = (await send(api, connection_id, "image", **fields)).json()
    other = await send(api, connection_id, "image", message_id="order-7", payload={"base64": encoded(PNG + b"!")})

    assert (first["deduplicated"], again["deduplicated"]) == (False, True)
    assert again["message"]["id"] == first["message"]["id"]
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert await database.fetchval("SELECT count(*) FROM messages") == 1


@pytest.mark.parametrize(
    ("type_", "data"),
    [("image", HTML), ("image", OGG), ("audio", PNG), ("video", PNG), ("sticker", PNG), ("image", b"<svg >")],
)
async def test_a_file_that_does_not_fit_the_type_is_refused_in_every_way(
    api: httpx.AsyncClient, connection_id: str, database: Connection, type_: str, data: bytes
) -> None:
    by_id = await send(api, connection_id, type_, payload={"media_id": await upload(api, data)})
    by_bytes = await send(api, connection_id, type_, payload={"base64": encoded(data)})

    assert (by_id.status_code, by_id.json()["errors"][0]["pointer"]) == (422, "/payload/media_id")
    assert (by_bytes.status_code, by_bytes.json()["errors"][0]["pointer"]) == (422, "/payload/base64")
    assert "takes a" in by_id.json()["detail"]
    assert await database.fetchval("SELECT count(*) FROM messages") == 0
    assert await database.fetchval("SELECT count(*) FROM media WHERE origin = 'base64'") == 0


@pytest.mark.parametrize(("type_", "data"), [("image", PNG), ("audio", OGG), ("document", HTML), ("document", PNG)])
async def test_a_file_that_fits_is_taken(api: httpx.AsyncClient, connection_id: str, type_: str, data: bytes) -> None:
    answer = await send(api, connection_id, type_, payload={"media_id": await upload(api, data)})

    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("media_id", [str(uuid4()), "not-an-id", "../../x"])
async def test_a_media_id_that_is_none_is_refused(api: httpx.AsyncClient, connection_id: str, media_id: str) -> None:
    answer = await send(api, connection_id, "image", payload={"media_id": media_id})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/payload/media_id")


async def test_a_foreign_file_is_refused_like_one_that_is_not_there(api: httpx.AsyncClient, connection_id: str) -> None:
    common = await upload(api, PNG)
    own = await upload(api, PNG, connection_id=connection_id)
    made = await api.post(
        "/api-keys", json={"name": "k", "scopes": ["messages:write"], "connection_ids": [connection_id]}
    )
    api.headers["Authorization"] = f"Bearer {made.json()['key']}"

    missing = await send(api, connection_id, "image", payload={"media_id": str(uuid4())})
    foreign = await send(api, connection_id, "image", payload={"media_id": common})

    assert foreign.status_code == missing.status_code == 422
    assert foreign.json()["errors"] == missing.json()["errors"]
    assert (await send(api, connection_id, "image", payload={"media_id": own})).status_code == 202


@pytest.mark.parametrize("text", ["AAAA=", "A===", "AAA", "####", "AA AA"])
async def test_what_is_no_base64_is_refused(api: httpx.AsyncClient, connection_id: str, text: str) -> None:
    answer = await send(api, connection_id, "document", payload={"base64": text})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/payload/base64")


@pytest.mark.parametrize(
    "url", ["http://user@example.com/a.png", "https://example.com:25/a.png", "https://exa mple.com/", "https:///a.png"]
)
async def test_what_is_no_url_of_a_file_is_refused_at_once(
    api: httpx.AsyncClient, connection_id: str, url: str
) -> None:
    answer = await send(api, connection_id, "image", payload={"url": url})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/payload/url")


async def test_in_a_batch_a_wrong_file_spoils_no_other(
    api: httpx.AsyncClient, connection_id: str, database: Connection
) -> None:
    payloads = [
        {"base64": encoded(PNG)},
        {"media_id": str(uuid4())},
        {"base64": encoded(HTML)},
        {"media_id": await upload(api, PNG)},
        {"base64": encoded(PNG)},
    ]
    messages = [{"to": TO, "type": "image", "payload": payload} for payload in payloads]

    answer = await api.post(f"/connections/{connection_id}/send/batch", json={"messages": messages})

    results = answer.json()["results"]
    assert ["message" in one for one in results] == [True, False, False, True, True]
    assert results[1]["error"]["errors"][0]["pointer"] == "/messages/1/payload/media_id"
    assert results[2]["error"]["errors"][0]["pointer"] == "/messages/2/payload/base64"
    assert await database.fetchval("SELECT count(*) FROM messages") == 3


async def test_a_foreign_connection_gets_no_file(
    api: httpx.AsyncClient, connection_id: str, database: Connection
) -> None:
    del connection_id
    answer = await send(api, str(uuid4()), "image", payload={"base64": encoded(PNG)})

    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such connection.")
    assert await database.fetchval("SELECT count(*) FROM media") == 0


# ---- before the first try


async def media_message(office: Office, payload: dict[str, Any], *, type_: str = "image") -> UUID:
    message_id = await office.message(await office.session())
    await office.queues.pool.execute(
        "UPDATE messages SET type = $2, payload = $3 WHERE id = $1", message_id, type_, payload
    )
    return message_id


def answering(data: bytes, *, status: str = "200 OK", headers: str = "") -> Play:
    return replying(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)


async def fall_due(office: Office) -> None:
    await office.queues.pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'")
    await office.queues.pool.fetch("SELECT * FROM ledger_sweep_v1(100)")


async def test_the_url_s_file_is_stored_before_the_host_is_asked(office: Office) -> None:
    async with serving(answering(PNG)) as server:
        message_id = await media_message(office, {"url": f"{server.url}/cat.png", "caption": "look"})
        await office.drain()

    [command] = office.host.sends
    row = await office.row(cast("Any", message_id))
    assert row["status"] == "sent"
    assert command.payload == row["payload"]
    assert set(command.payload) == {"url", "caption", "media_id"}
    data, found = await office.use.media.read(UUID(command.payload["media_id"]))
    assert (data, found.mimetype, found.filename) == (PNG, "image/png", "cat.png")
    assert found.connection_id == row["connection_id"]


async def test_a_retry_sends_the_stored_bytes_whatever_the_url_has_by_then(office: Office) -> None:
    answers: list[protocol.SendAnswer] = [protocol.Refused(code="BUSY_NOW", detail="later")]

    async def answer(command: protocol.Send) -> protocol.SendAnswer:
        return answers.pop() if answers else sent(command)

    office.host.on_send = answer
    async with serving(answering(PNG)) as server:
        message_id = await media_message(office, {"url": server.url})
        await office.drain()
        assert await office.status(cast("Any", message_id)) == "failed"
        await fall_due(office)
        await office.drain()

    first, second = office.host.sends
    assert first.payload == second.payload
    assert server.accepts == 1
    assert await office.status(cast("Any", message_id)) == "sent"


@pytest.mark.parametrize(
    ("play", "code", "is_retried"),
    [
        (answering(b"no", status="404 Not Found"), "MEDIA_FETCH_FAILED", False),
        (answering(b"no", status="403 Forbidden"), "MEDIA_FETCH_FAILED", False),
        (answering(b"no", status="500 Oops"), "MEDIA_FETCH_FAILED", True),
        (answering(b"no", status="429 Too Many Requests"), "MEDIA_FETCH_FAILED", True),
        (answering(b""), "MEDIA_FETCH_FAILED", True),
        (answering(HTML, headers="Content-Type: image/png\r\n"), "MEDIA_UNFIT", False),
        (answering(PNG + bytes(200_000)), "MEDIA_TOO_LARGE", False),
        (
            replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n" + PNG * 70),
            "MEDIA_TOO_LARGE",
            False,
        ),
        (replying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG), "MEDIA_FETCH_FAILED", True),
        (replying(b"garbage\r\n\r\n"), "MEDIA_FETCH_FAILED", True),
    ],
)
async def test_what_the_url_gives_instead_is_said_and_tried_again_where_that_may_help(
    office: Office, play: Play, code: str, is_retried: bool
) -> None:
    async with serving(play) as server:
        message_id = await media_message(office, {"url": server.url})
        await office.drain()

    row = await office.row(cast("Any", message_id))
    assert row["error"]["code"] == code
    assert row["status"] == ("failed" if is_retried else "dlq")
    assert row["error"]["retryable"] is is_retried
    assert office.host.sends == []
    assert await office.queues.pool.fetchval("SELECT count(*) FROM media") == 0
    assert str(server.port) not in row["error"]["detail"]


async def test_a_url_into_our_network_is_not_connected_to(office: Office, settings: Settings) -> None:
    closed = settings.model_copy(update={"webhook_allow_networks": []})
    office.use = replace_settings(office.use, closed)
    async with serving(answering(PNG)) as canary:
        message_id = await media_message(office, {"url": canary.url})
        await office.drain()

    row = await office.row(cast("Any", message_id))
    assert (canary.accepts, row["status"], row["error"]["code"]) == (0, "dlq", "MEDIA_FETCH_FAILED")


def replace_settings(use: Resources, settings: Settings) -> Resources:
    return cast("Resources", SimpleNamespace(**{**vars(use), "settings": settings}))


async def test_our_own_store_being_away_costs_the_message_no_try(office: Office, tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    async with serving(answering(PNG)) as server:
        message_id = await media_message(office, {"url": server.url})
        await office.drain()

    row = await office.row(cast("Any", message_id))
    assert (row["status"], row["attempts"], row["error"]) == ("queued", 0, None)
    assert await office.job_states() == {"delayed": 1}


async def test_a_file_that_is_gone_ends_the_message_or_is_fetched_again(office: Office) -> None:
    lost = await media_message(office, {"media_id": str(uuid4())})
    async with serving(answering(PNG)) as server:
        found_again = await media_message(office, {"media_id": str(uuid4()), "url": server.url})
        await office.drain()

    row = await office.row(cast("Any", lost))
    assert (row["status"], row["error"]["code"]) == ("dlq", "MEDIA_GONE")
    assert await office.status(cast("Any", found_again)) == "sent"


async def test_a_worker_that_dies_right_after_the_file_was_stored_fetches_it_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> Any:
        raise RuntimeError("the worker is gone")

    async with serving(answering(PNG)) as server:
        message_id = await media_message(office, {"url": server.url})
        with monkeypatch.context() as patched:
            patched.setattr("functions.references.resolve", die)
            await office.drain()
        await fall_due(office)
        await office.drain()

    assert server.accepts == 1
    assert await office.status(cast("Any", message_id)) == "sent"
    assert await office.queues.pool.fetchval("SELECT count(*) FROM media") == 1
