"""A connection's line: the place of a message, when it is likely to leave, and the line as a whole."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from shared.domain.jobs import QueueName
from shared.queues import ledger


@pytest.fixture
async def online(connection: dict[str, Any], database: Connection) -> dict[str, Any]:
    """A connection whose sends may go: no pause, 60 a minute, 10 at once."""
    await database.execute("UPDATE connections SET status = 'connected'")
    await ledger.set_group(database, QueueName.MESSAGE_SEND, connection["id"], rate_per_minute=60, burst=10)
    await database.execute("UPDATE job_groups SET reasons = '{}'")
    return connection


async def _accept(
    api: httpx.AsyncClient, connection: dict[str, Any], chats: list[int], **fields: Any
) -> list[dict[str, Any]]:
    """One message to each of these chats, in order."""
    wanted = [{"to": f"5511900{n:06d}", "type": "text", "payload": {"text": "Hi"}, **fields} for n in chats]
    answer = await api.post(f"/connections/{connection['id']}/send/batch", json={"messages": wanted})
    return [one["message"] for one in answer.json()["results"]]


async def _shown(api: httpx.AsyncClient, message: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = (await api.get(f"/messages/{message['id']}")).json()
    return shown


async def test_each_message_has_its_place(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    accepted = await _accept(api, online, list(range(15)))

    places = [(await _shown(api, one))["position"] for one in accepted]

    assert places == list(range(15))


async def test_a_later_one_leaves_later(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    accepted = await _accept(api, online, list(range(40)))

    first, last = [datetime.fromisoformat((await _shown(api, accepted[n]))["estimated_send_at"]) for n in (0, 39)]

    # 10 at once, then one a second.
    assert timedelta(seconds=25) < last - first < timedelta(seconds=35)


async def test_urgent_chats_go_first(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    [usual] = await _accept(api, online, [1])
    [urgent] = await _accept(api, online, [2], priority=9)

    assert [(await _shown(api, one))["position"] for one in (urgent, usual)] == [0, 1]


async def test_those_behind_another_of_their_chat_count_too(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    accepted = await _accept(api, online, [1, 1, 1, 2, 1])

    assert [(await _shown(api, one))["position"] for one in accepted] == [0, 1, 2, 3, 4]


async def test_what_follows_a_try_that_failed_comes_after_it(
    api: httpx.AsyncClient, online: dict[str, Any], database: Connection
) -> None:
    head, follower = await _accept(api, online, [1, 1])
    await database.execute(
        "UPDATE jobs SET state = 'delayed', run_at = now() + interval '1 hour' WHERE job_key = $1",
        f"msg-send-{head['id']}",
    )

    shown = await _shown(api, head)

    assert shown["position"] is None
    assert shown["estimated_send_at"] > shown["created_at"]
    assert (await _shown(api, follower))["position"] == 1


async def test_a_scheduled_one_has_no_place_yet(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    [scheduled] = await _accept(api, online, [1], send_at="2900-01-01T00:00:00Z")

    shown = await _shown(api, scheduled)

    assert (shown["position"], shown["estimated_send_at"]) == (None, "2900-01-01T00:00:00.000Z")


@pytest.mark.parametrize("pause", ["/connections/{id}/pause", "/queues/message:send/pause"])
async def test_while_paused_nobody_knows_when(api: httpx.AsyncClient, online: dict[str, Any], pause: str) -> None:
    accepted = await _accept(api, online, [1, 2])
    await api.post(pause.format(id=online["id"]))

    shown = await _shown(api, accepted[1])
    line = (await api.get(f"/connections/{online['id']}")).json()["sending"]

    assert (shown["position"], shown["estimated_send_at"]) == (1, None)
    assert (line["waiting"], line["estimated_empty_at"]) == (2, None)
    assert line["paused_reasons"] == [shown["parked_reason"]]


async def test_what_does_not_wait_has_no_place(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    [message] = await _accept(api, online, [1])
    await api.post(f"/messages/{message['id']}/cancel")

    shown = await _shown(api, message)

    assert (shown["position"], shown["estimated_send_at"]) == (None, None)


async def test_a_connection_tells_of_its_line(api: httpx.AsyncClient, online: dict[str, Any]) -> None:
    empty = (await api.get(f"/connections/{online['id']}")).json()["sending"]
    await _accept(api, online, [1, 1, 2])

    line = (await api.get(f"/connections/{online['id']}")).json()["sending"]

    assert empty == {"waiting": 0, "paused_reasons": [], "rate_per_minute": 60, "estimated_empty_at": None}
    assert (line["waiting"], line["paused_reasons"]) == (3, [])
    assert line["estimated_empty_at"] is not None
