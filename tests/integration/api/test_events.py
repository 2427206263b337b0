"""`GET /events`: pages, filters, who sees what, and that no event is passed by because it was committed late."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.db import events
from shared.db.event_horizon import Horizon, LogRewound, Look
from shared.db.pool import Connection, connect, open_pool
from shared.settings import Settings
from tests.integration.api.conftest import running
from tests.integration.api.event_listener import clear_events, write_event
from tests.integration.api.test_odd_values import ODD


async def _ids(api: httpx.AsyncClient, query: str = "", **headers: str) -> list[str]:
    answer = await api.get(f"/events?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["data"]]


async def _key(api: httpx.AsyncClient, *scopes: str, **fields: Any) -> dict[str, str]:
    made = (await api.post("/api-keys", json={"name": "k", "scopes": list(scopes), **fields})).json()
    return {"Authorization": f"Bearer {made['key']}"}


async def _second_connection(api: httpx.AsyncClient) -> str:
    made: str = (await api.post("/connections", json={"label": "Other"})).json()["connection"]["id"]
    return made


async def test_an_event_is_shown_with_what_it_is_about(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    await clear_events(database)
    event_id = await write_event(database, connection["id"])

    answer = await api.get("/events")

    [shown] = answer.json()["data"]
    assert answer.json()["next_cursor"] is None
    assert shown.pop("created_at").endswith("Z")
    assert shown == {
        "id": event_id,
        "connection_id": connection["id"],
        "type": "message.sent",
        "category": "message",
        "severity": "info",
        "payload": {"text": "olá\nmundo"},
    }


async def test_what_the_api_does_is_in_the_log(api: httpx.AsyncClient, connection: dict[str, Any]) -> None:
    [first, *_] = (await api.get("/events")).json()["data"]

    assert (first["type"], first["connection_id"]) == ("session.init_queued", connection["id"])
    assert first["payload"]["id"] == connection["id"]


@pytest.mark.parametrize("parameter", ["after", "cursor"])
async def test_pages_follow_one_another_without_a_gap(
    api: httpx.AsyncClient, database: Connection, parameter: str
) -> None:
    made = [await write_event(database) for _ in range(7)]

    seen, cursor = [], ""
    while True:
        answer = (await api.get(f"/events?limit=3{cursor}")).json()
        seen += [event["id"] for event in answer["data"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&{parameter}={answer['next_cursor']}"

    assert seen == made


async def test_a_reader_goes_on_after_the_last_event_it_has_seen(api: httpx.AsyncClient, database: Connection) -> None:
    first, second, third = [await write_event(database) for _ in range(3)]

    assert await _ids(api, f"after={first}") == [second, third]
    assert await _ids(api, f"after={third}") == []
    assert await _ids(api, f"after={first.upper()}&limit=1") == [second]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("type=message.sent", [0, 2]),
        ("type=message.*", [0, 1, 2]),
        ("type=queue.*", [4]),
        ("type=message.played", []),
        ("connection_id={one}", [0, 3]),
        ("connection_id={one}&type=message.*", [0]),
        ("connection_id={other}&type=message.sent", [2]),
    ],
)
async def test_filters_narrow(api: httpx.AsyncClient, database: Connection, wanted: str, found: list[int]) -> None:
    one, other = await _second_connection(api), await _second_connection(api)
    await clear_events(database)
    made = [
        await write_event(database, one, "message.sent"),
        await write_event(database, other, "message.read"),
        await write_event(database, other, "message.sent"),
        await write_event(database, one, "session.status"),
        await write_event(database, None, "queue.backlog"),
    ]

    assert await _ids(api, wanted.format(one=one, other=other)) == [made[index] for index in found]


async def test_rare_events_are_found_however_many_others_there_are(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_LOOK_ROWS", 3)
    monkeypatch.setattr(events, "_LEAST_ROWS", 2)
    await clear_events(database)
    rare = []
    for number in range(200):
        if number in {0, 90, 199}:
            rare.append(await write_event(database, connection["id"], "session.banned"))
        else:
            await write_event(database, None, "queue.backlog")

    seen, cursor, pages = [], "", 0
    while pages < 20:
        answer = (await api.get(f"/events?type=session.*{cursor}")).json()
        seen += [event["id"] for event in answer["data"]]
        pages += 1
        if answer["next_cursor"] is None:
            break
        cursor = f"&after={answer['next_cursor']}"

    # A request looks at so many and no more, so that none of them takes long.
    assert pages > 1
    assert seen == rare
    assert await _ids(api, f"connection_id={connection['id']}") == rare


async def test_a_limited_key_sees_only_what_is_its_own(
    api: httpx.AsyncClient, connection: dict[str, Any], database: Connection
) -> None:
    own = await _second_connection(api)
    await clear_events(database)
    foreign = await write_event(database, connection["id"])
    mine = await write_event(database, own)
    nobodys = await write_event(database, None, "queue.backlog")
    last = await write_event(database, own, "message.read")
    key = await _key(api, "events:read", connection_ids=[own])

    assert await _ids(api, "", **key) == [mine, last]
    assert await _ids(api, "type=message.read", **key) == [last]
    assert await _ids(api, f"connection_id={own}", **key) == [mine, last]
    answers = [
        await api.get(f"/events?connection_id={connection['id']}", headers=key),
        await api.get(f"/events?connection_id={uuid4()}", headers=key),
        await api.get(f"/events?connection_id={uuid4()}"),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    for event_id in (foreign, nobodys, str(uuid4())):
        answer = await api.get(f"/events?after={event_id}", headers=key)
        assert (answer.status_code, answer.json()["code"]) == (410, "EVENT_GONE")


async def test_the_log_wants_the_scope_for_it(api: httpx.AsyncClient) -> None:
    key = await _key(api, "messages:read", "events:write")

    for method, path in (("GET", "/events"), ("GET", "/events/stream"), ("POST", "/events/ticket")):
        answer = await api.request(method, path, headers=key)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), path


async def test_an_event_that_retention_deleted_is_no_place_to_go_on(
    api: httpx.AsyncClient, database: Connection
) -> None:
    event_id = await write_event(database)
    await clear_events(database)

    for answer in (
        await api.get(f"/events?after={event_id}"),
        await api.get(f"/events/stream?after={event_id}"),
        await api.get("/events/stream", headers={"Last-Event-ID": event_id}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (410, "EVENT_GONE")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("after=x", "?after"),
        ("cursor=x", "?cursor"),
        ("after=00000000-0000-0000-0000-00000000000", "?after"),
        ("type=message", "?type"),
        ("type=*", "?type"),
        ("type=message.sent,message.read", "?type"),
        ("connection_id=1", "?connection_id"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("before=1", "?before"),
    ],
)
async def test_a_wrong_query_is_named(api: httpx.AsyncClient, query: str, pointer: str) -> None:
    answer = await api.get(f"/events?{query}")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_two_places_to_go_on_from_are_one_too_many(api: httpx.AsyncClient) -> None:
    assert (await api.get("/events?after=MA&cursor=MQ")).status_code == 422
    assert (await api.get("/events?after=MA&cursor=MA")).status_code == 200


async def test_no_odd_value_is_a_fault_of_ours(api: httpx.AsyncClient) -> None:
    for parameter in ("after", "cursor", "type", "connection_id", "limit"):
        for odd in (*ODD, "%ff%fe", "%ed%a0%80", "..", "a" * 5000, "%0d%0aSet-Cookie:x"):
            value = odd.replace("#", "").strip('"').replace("\\", "%5c")
            answer = await api.get(httpx.URL("http://api.test").join(f"/events?{parameter}={value}"))
            assert answer.status_code < 500, (parameter, odd, answer.text)


async def test_a_lower_position_that_commits_last_is_not_passed_by(
    api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    before = await write_event(database)
    assert await _ids(api) == [before]
    async with connect(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        lower = await write_event(slow)
        higher = await write_event(database)

        in_between = await _ids(api)
        late_reader = await _ids(api, f"after={before}")
        await transaction.commit()

    assert (in_between, late_reader) == ([before], [])
    assert await _ids(api, f"after={before}") == [lower, higher]


async def test_a_lower_position_that_is_rolled_back_holds_nothing_up(
    api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    async with connect(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await write_event(slow)
        higher = await write_event(database)
        assert await _ids(api) == []
        await transaction.rollback()

    assert await _ids(api) == [higher]


async def test_a_long_transaction_that_writes_no_events_holds_nothing_up(
    api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    async with connect(database_url) as long, long.transaction():
        await long.execute("UPDATE queues SET paused = paused")
        await long.fetch("SELECT 1 FROM events")
        event_id = await write_event(database)

        assert await _ids(api) == [event_id]


async def test_a_process_that_starts_while_a_writer_hangs_shows_what_others_knew(
    settings: Settings, api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    old = await write_event(database)
    assert await _ids(api) == [old]

    async with connect(database_url) as hanging, hanging.transaction():
        await write_event(hanging)
        await write_event(database)
        async with running(settings) as another:
            assert await _ids(another) == [old]


async def test_a_mark_waits_for_those_who_wrote_before_it_and_for_nobody_later(
    database: Connection, database_url: str
) -> None:
    pool = await open_pool(database_url, max_size=1)
    async with pool, connect(database_url) as first, connect(database_url) as second:
        horizon = Horizon(pool)
        look = Look(pool, horizon)
        one, two = first.transaction(), second.transaction()
        await one.start()
        await write_event(first)
        assert (await look.again(), horizon.settled) == (1, 0)

        await two.start()
        await write_event(second)
        assert (await look.again(), horizon.settled) == (2, 0)
        await one.commit()
        assert (await look.again(), horizon.settled) == (2, 1)
        assert look.is_waiting
        await two.commit()
        assert (await look.again(), horizon.settled) == (2, 2)
        assert not look.is_waiting


async def test_a_log_that_became_shorter_is_noticed_and_read_anew(
    api: httpx.AsyncClient, database: Connection, database_url: str
) -> None:
    for _ in range(3):
        await write_event(database)
    pool = await open_pool(database_url, max_size=1)
    async with pool:
        horizon = Horizon(pool)
        assert await horizon.reach(patience_s=1) == 3
        await _ids(api)
        await database.execute("TRUNCATE events RESTART IDENTITY")
        event_id = await write_event(database)

        with pytest.raises(LogRewound):
            await horizon.reach(patience_s=1)
        assert await horizon.reach(patience_s=1) == 1
    assert await _ids(api) == [event_id]


async def test_positions_are_given_one_at_a_time(database: Connection) -> None:
    # A session that kept some in stock would give low ones late, without a lock that tells.
    assert (
        await database.fetchval("SELECT seqcache FROM pg_sequence WHERE seqrelid = 'events_position_seq'::regclass")
        == 1
    )


async def test_many_writers_that_commit_in_any_order_lose_and_double_nothing(
    api: httpx.AsyncClient, database_url: str
) -> None:
    writers, rounds = 8, 25
    written: list[str] = []

    async def write(number: int) -> None:
        async with connect(database_url) as connection:
            for round_ in range(rounds):
                async with connection.transaction():
                    made = [await write_event(connection) for _ in range(1 + (number + round_) % 3)]
                    # Others take positions and commit while this one has not.
                    await connection.execute("SELECT pg_sleep($1)", (number * 7 + round_ * 3) % 5 / 1000)
                    if (number + round_) % 6 == 0:
                        await connection.execute("DELETE FROM events WHERE id = ANY($1::uuid[])", made)
                        made = []
                written.extend(made)

    seen: list[str] = []

    async def read() -> None:
        seen.extend(await _ids(api, f"limit=20&after={seen[-1]}" if seen else "limit=20"))

    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(write(number)) for number in range(writers)]
        while not all(task.done() for task in writing):
            await read()
    while len(seen) < len(written):
        before = len(seen)
        await read()
        assert len(seen) > before, "events are missing"

    assert sorted(seen) == sorted(written)
    assert len(set(seen)) == len(seen)
