"""`GET /events/stream` and its tickets: resume, filters, slow clients, bounds, keys that end; without a socket."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import event_feed, event_stream
from shared.db.pool import Connection, connect
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, running
from tests.integration.api.event_listener import PATIENCE_S, app_of, listening, write_event
from tests.integration.api.test_odd_values import ODD


async def _key(api: httpx.AsyncClient, *scopes: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = (await api.post("/api-keys", json={"name": "k", "scopes": list(scopes), **fields})).json()
    return made


async def _ticket(api: httpx.AsyncClient, key: str = ADMIN_KEY) -> str:
    answer = await api.post("/events/ticket", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


async def test_an_event_is_told_as_the_log_shows_it(api: httpx.AsyncClient, database: Connection) -> None:
    before = await write_event(database)
    async with listening(api) as stream:
        event_id = await write_event(database)
        sent = await stream.next()

    [_, shown] = (await api.get("/events")).json()["data"]
    assert (sent.id, sent.event, sent.data) == (event_id, "message.sent", shown)
    assert sent.id != before
    assert stream.status == 200
    assert stream.parser.retry == "2000"
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-store"
    assert stream.headers["x-accel-buffering"] == "no"
    assert "content-length" not in stream.headers


@pytest.mark.parametrize("way", ["header", "query", "header before query"])
async def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(
    api: httpx.AsyncClient, database: Connection, way: str
) -> None:
    async with listening(api) as stream:
        made = [await write_event(database) for _ in range(2)]
        assert await stream.next_ids(2) == made
    made = [await write_event(database) for _ in range(3)]

    query = "" if way == "header" else f"after={made[0] if way == 'query' else made[1]}"
    headers = {} if way == "query" else {"Last-Event-ID": made[0]}
    async with listening(api, query, headers=headers) as stream:
        made.append(await write_event(database))

        assert await stream.next_ids(3) == made[1:]


async def test_a_cut_before_the_first_event_misses_nothing_either(api: httpx.AsyncClient, database: Connection) -> None:
    async with listening(api) as stream:
        place = stream.headers["last-event-id"]
    event_id = await write_event(database)

    async with listening(api, f"after={place}") as stream:
        assert (await stream.next()).id == event_id


async def test_a_lower_position_that_commits_last_is_told_in_its_place(
    api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    async with listening(api) as stream, listening(api) as another, connect(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        lower = await write_event(slow)
        higher = await write_event(database)
        # Read in between: what has committed is not told before what may come ahead of it.
        assert (await api.get("/events")).json()["data"] == []
        await transaction.commit()

        assert await stream.next_ids(2) == [lower, higher]
        assert await another.next_ids(2) == [lower, higher]


@pytest.mark.parametrize("query", ["type=message.read", "connection_id={own}", "connection_id={own}&type=message.*"])
async def test_a_stream_tells_what_its_filter_wants(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, query: str
) -> None:
    place = (await api.post("/events/ticket")).json()["cursor"]
    for type_ in ("message.sent", "queue.failing"):
        await write_event(database, None, type_)
    wanted = await write_event(database, connection["id"], "message.read")

    # From the database, and as it happens.
    async with listening(api, query.format(own=connection["id"]) + f"&after={place}") as stream:
        assert (await stream.next()).id == wanted
        await write_event(database, None, "message.sent")
        wanted = await write_event(database, connection["id"], "message.read")
        assert (await stream.next()).id == wanted


async def test_a_limited_key_is_told_only_what_is_its_own(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    own = (await api.post("/connections", json={"label": "own"})).json()["connection"]["id"]
    key = (await _key(api, "events:read", connection_ids=[own]))["key"]
    ticket = await _ticket(api, key)

    async with listening(api, key=key) as stream, listening(api, f"ticket={ticket}", key=None) as ticketed:
        await write_event(database, connection["id"])
        await write_event(database, None, "queue.backlog")
        mine = await write_event(database, own)

        assert (await stream.next()).id == mine
        assert (await ticketed.next()).id == mine
    foreign = await api.get(
        f"/events/stream?connection_id={connection['id']}", headers={"Authorization": f"Bearer {key}"}
    )
    assert foreign.status_code == 404


async def test_a_silent_stream_is_kept_alive(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.01)
    async with listening(api) as stream:
        assert [await stream.comment() for _ in range(3)] == ["keep-alive"] * 3


async def test_a_ticket_opens_one_stream(settings: Settings, database: Connection) -> None:
    async with running(settings) as api, running(settings) as another_process:
        ticket = await _ticket(api)
        async with asyncio.TaskGroup() as group:
            tries = [
                group.create_task(_status_of_opening(process, f"ticket={ticket}"))
                for process in (api, another_process, api, another_process)
            ]

        assert sorted(task.result() for task in tries) == [200, 401, 401, 401]
        assert await database.fetchval("SELECT count(*) FROM event_tickets") == 0


async def _status_of_opening(api: httpx.AsyncClient, query: str) -> int:
    async with listening(api, query, key=None) as stream:
        return stream.status


async def test_a_ticket_is_kept_as_a_hash_and_does_not_last(api: httpx.AsyncClient, database: Connection) -> None:
    made = (await api.post("/events/ticket")).json()
    row = await database.fetchrow("SELECT *, expires_at - now() AS lasts FROM event_tickets")

    assert row is not None
    assert made["ticket"] not in str(row)
    assert 30 <= row["lasts"].total_seconds() <= 60
    await database.execute("UPDATE event_tickets SET expires_at = now() - interval '1 ms'")
    assert await _status_of_opening(api, f"ticket={made['ticket']}") == 401
    # The next one sweeps it away.
    await _ticket(api)
    assert await database.fetchval("SELECT count(*) FROM event_tickets") == 1


async def test_a_ticket_is_worth_no_more_than_its_key(api: httpx.AsyncClient) -> None:
    made = await _key(api, "events:read")
    ticket = await _ticket(api, made["key"])
    await api.delete(f"/api-keys/{made['id']}")

    assert await _status_of_opening(api, f"ticket={ticket}") == 401
    for path in ("/events", "/connections"):
        ticket = await _ticket(api)
        answer = await api.get(f"{path}?ticket={ticket}", headers={"Authorization": f"Bearer {ticket}"})
        assert answer.status_code == 401


@pytest.mark.parametrize("ticket", ["", "x", "null", "zt_", "%00", "%ff%fe", "%ed%a0%80", "a" * 128])
async def test_what_is_no_ticket_opens_nothing(settings: Settings, ticket: str) -> None:
    async with running(settings, key=None) as api:
        answer = await api.get(f"/events/stream?ticket={ticket}")
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")


async def test_no_ticket_is_logged(capsys: pytest.CaptureFixture[str], api: httpx.AsyncClient) -> None:
    ticket = await _ticket(api)
    async with listening(api, f"ticket={ticket}", key=None) as stream:
        assert stream.status == 200
    await _status_of_opening(api, f"ticket={ticket}")

    written = capsys.readouterr().out
    assert "http_request_ended" in written
    assert ticket not in written


async def test_no_odd_value_is_a_fault_of_ours(api: httpx.AsyncClient) -> None:
    wrong = str(uuid4())
    for parameter in ("after", "type", "connection_id", "ticket", "x"):
        for odd in (*ODD, "%ff%fe", "%ed%a0%80", "..", "a" * 5000):
            value = odd.replace("#", "").strip('"').replace("\\", "%5c")
            # The unknown event is refused in the end, so that no stream is opened.
            url = httpx.URL("http://api.test").join(f"/events/stream?{parameter}={value}")
            answer = await api.get(url, headers={"Last-Event-ID": wrong})
            assert 400 <= answer.status_code < 500, (parameter, odd, answer.text)
    for header in ("x", "-1", "é", "a" * 5000, "%00", wrong[:-1], f"{{{wrong}}}"):
        answer = await api.get("/events/stream", headers={"Last-Event-ID": header.encode()})
        assert answer.status_code == 422, header
        assert answer.json()["errors"][0]["pointer"] in {"Last-Event-ID", "last-event-id"}


async def test_a_slow_client_keeps_nothing_in_memory_and_gets_everything(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "_WINDOW_EVENTS", 10)
    monkeypatch.setattr(event_stream, "_ENOUGH_BYTES", 1000)
    async with listening(api) as slow, listening(api) as fast:
        slow.is_taking.clear()
        made = [await write_event(database) for _ in range(100)]
        assert await fast.next_ids(100) == made
        [window] = {id(window): window for window in [_feed(api)._window]}.values()

        assert window is not None
        assert len(window._told) == 10
        taken_before = slow.taken_bytes
        slow.is_taking.set()
        assert await slow.next_ids(100) == made
        assert slow.taken_bytes > taken_before
        # What waits for a client is one write's worth: no more than so many bytes and one event.
        assert slow.largest_bytes < 2000


async def test_the_window_is_bounded_in_bytes(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "_WINDOW_BYTES", 1000)
    async with listening(api) as stream:
        made = [await write_event(database) for _ in range(20)]

        assert await stream.next_ids(20) == made
        window = _feed(api)._window
        assert window is not None
        assert sum(len(told.block) for told in window._told) <= 1000


async def test_a_client_that_takes_nothing_is_let_go(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "WRITE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(event_stream, "_LAST_WRITE_S", 0.01)
    async with listening(api) as stream:
        window = _feed(api)._window
        assert window is not None
        stream.is_taking.clear()
        await write_event(database)

        # It leaves by itself, and as the last one it ends the looking.
        assert window.polling is not None
        await asyncio.wait({window.polling}, timeout=PATIENCE_S)
        assert not _feed(api)._streams


async def test_a_stream_ends_with_its_key(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "_CHECK_KEYS_EVERY_S", 0)
    made = await _key(api, "events:read")
    other = await _key(api, "events:read")
    async with listening(api, key=made["key"]) as stream, listening(api, key=other["key"]) as another:
        await api.delete(f"/api-keys/{made['id']}")

        assert await stream.rest() == []
        event_id = await write_event(database)
        assert (await another.next()).id == event_id


async def test_nobody_looks_at_the_log_without_a_stream(api: httpx.AsyncClient) -> None:
    async with listening(api), listening(api):
        feed = _feed(api)
        [polling] = {feed._window.polling} if feed._window is not None else set()
        assert polling is not None
        assert not polling.done()

    assert feed._window is None
    assert polling.done()
    assert not feed._streams


async def test_streams_are_bounded_by_key_and_by_process(api: httpx.AsyncClient) -> None:
    keys = [(await _key(api, "events:read"))["key"] for _ in range(3)]
    first, second, third = keys
    async with listening(api, key=first), listening(api, key=second):
        feed = _feed(api)
        feed._most, feed._most_per_key = 3, 1
        refused = await api.get("/events/stream", headers={"Authorization": f"Bearer {first}"})
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert refused.headers["retry-after"] == "5"
        async with listening(api, key=third):
            ticket = await _ticket(api)
            refused = await api.get(f"/events/stream?ticket={ticket}")
            assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
            assert refused.headers["retry-after"] == "5"
        # The ticket was not used up by what was refused.
        assert await _status_of_opening(api, f"ticket={ticket}") == 200


async def test_a_database_that_is_away_ends_no_stream(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(api) as stream:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        event_id = await write_event(database)

        assert (await stream.next()).id == event_id


async def test_a_fault_in_the_feed_ends_its_streams_so_that_clients_come_back(
    api: httpx.AsyncClient, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(api) as stream:
        # Told, so the feed has begun.
        first = await write_event(database)
        assert (await stream.next()).id == first
        with monkeypatch.context() as broken:
            broken.setattr(event_feed, "block_of", lambda _: 1 / 0)
            lost = await write_event(database)
            assert await stream.rest() == []

    async with listening(api, f"after={first}") as stream:
        assert (await stream.next()).id == lost


async def test_where_no_answer_stays_open_it_tells_what_is_there_and_ends(
    api: httpx.AsyncClient, database: Connection
) -> None:
    made = [await write_event(database) for _ in range(120)]
    app = app_of(api)

    async def as_in_a_lambda(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "aws.event": {}}, receive, send)

    transport = httpx.ASGITransport(as_in_a_lambda)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=api.headers) as client:
        answer = await client.get(f"/events/stream?after={made[0]}")

    assert [line[4:] for line in answer.text.split("\n") if line.startswith("id: ")] == made[1:]
    assert answer.text.startswith("retry: 2000\n\n")


def _feed(api: httpx.AsyncClient) -> event_feed.Feed:
    held: tuple[Any, event_feed.Feed] = app_of(api).state.event_feed  # type: ignore[attr-defined]
    return held[1]
