"""What WhatsApp's refusals do to messages and their neighbours, and what pacing does, end to end on the real wire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.conftest import until
from tests.wire.messages.conftest import PHONE, Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]


async def fault(chat: Chat, code: int, *, contact: str | None = None, count: int = 1) -> None:
    body = {"kind": "ack_error", "code": code, "session_phone": PHONE, "contact": contact or chat.contact}
    answer = await chat.stack.phones.post("/faults", json={**body, "count": count})
    assert answer.is_success, answer.text


async def configure(chat: Chat, **config: Any) -> None:
    answer = await chat.stack.api.patch(f"/connections/{chat.connection}", json={"config": config})
    assert answer.status_code == 200, answer.text


async def parked(chat: Chat, message: dict[str, Any], reason: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await chat.shown(message["id"])
        return found if found["parked_reason"] == reason else None

    return await until(look, within_s=60, what=f"it waits for {reason}")


def neighbour(chat: Chat) -> Chat:
    return Chat(chat.stack, chat.sink, chat.connection, contact=chat.contact.replace("55219777", "55219778"))


async def test_a_463_holds_its_chat_alone_is_told_and_a_person_has_it_tried_again(chat: Chat) -> None:
    await fault(chat, 463)
    first = await chat.accept("text", {"text": "hello"})
    second = await chat.accept("text", {"text": "again"})

    shown = await parked(chat, first, "chat_restricted")
    other = await neighbour(chat).send("text", {"text": "not held"})
    behind = await chat.shown(second["id"])
    told = await chat.stack.api.get(f"/messages/{first['id']}/timeline")
    again = await chat.stack.api.post(f"/messages/{first['id']}/retry")

    assert (shown["status"], shown["attempts"], shown["error"]["code"]) == ("queued", 0, "CHAT_RESTRICTED")
    assert shown["next_attempt_at"] is not None
    assert other["status"] in {"sent", "delivered"}
    assert (behind["status"], behind["parked_reason"]) == ("queued", "behind_earlier_message")
    assert any(one["kind"] == "attempt" and one["error"]["code"] == "CHAT_RESTRICTED" for one in told.json()["data"])
    assert (again.status_code, again.json()["job"]["id"]) == (202, f"msg-send-{first['id']}")
    sent = [await chat.settled(one["id"], "sent", "delivered") for one in (first, second)]
    assert [(await chat.on_wire(one))["text"] for one in sent] == ["hello", "again"]
    assert (sent[0]["error"], sent[0]["attempts"]) == (None, 1)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 406, 410])
async def test_a_refusal_for_good_fails_at_once_with_its_code(chat: Chat, code: int) -> None:
    await fault(chat, code)

    refused = await chat.settled((await chat.accept("text", {"text": "no"}))["id"], "dlq")

    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("WHATSAPP_REFUSED", False)
    assert str(code) in refused["error"]["detail"]
    assert refused["attempts"] == 1


async def test_a_479_is_tried_again_by_the_schedule(chat: Chat) -> None:
    await fault(chat, 479)
    accepted = await chat.accept("text", {"text": "later"})

    failed = await chat.settled(accepted["id"], "failed")
    sent = await chat.settled(accepted["id"], "sent", "delivered")

    assert (failed["error"]["code"], failed["error"]["retryable"]) == ("WHATSAPP_REFUSED", True)
    assert failed["next_attempt_at"] is not None
    assert sent["attempts"] == 2
    assert (await chat.on_wire(sent))["text"] == "later"


async def test_a_5xx_was_not_delivered_and_will_be_tried_again(chat: Chat) -> None:
    await fault(chat, 503)

    failed = await chat.settled((await chat.accept("text", {"text": "busy"}))["id"], "failed")

    assert (failed["error"]["code"], failed["error"]["retryable"], failed["attempts"]) == ("UNAVAILABLE", True, 1)
    assert failed["next_attempt_at"] is not None


async def test_typing_comes_before_a_paced_message_and_its_chat_rests_afterwards(chat: Chat) -> None:
    await configure(chat, pacing={"profile": "custom", "rate_per_minute": 600, "typing": True, "min_gap_seconds": 3600})
    first = await chat.send("text", {"text": "typed"})
    second = await chat.accept("text", {"text": "waits"})
    held = await parked(chat, second, "rate_limited")
    signals = (await chat.stack.phones.get("/signals", params={"session_phone": PHONE})).json()["data"]
    await configure(chat)
    sent = await chat.settled(second["id"], "sent", "delivered")

    assert (held["status"], held["attempts"]) == ("queued", 0)
    assert [one["kind"] for one in signals if chat.contact in one["chat"]] == ["typing"]
    assert [(await chat.on_wire(one))["text"] for one in (first, sent)] == ["typed", "waits"]


async def test_quiet_hours_hold_everything_and_end_with_the_change_of_a_config(chat: Chat) -> None:
    now = datetime.now(UTC)
    hours = {"start": f"{now - timedelta(hours=2):%H:%M}", "end": f"{now + timedelta(hours=2):%H:%M}"}
    await configure(chat, quiet_hours={**hours, "time_zone": "UTC"})

    held = await parked(chat, await chat.accept("text", {"text": "good morning"}), "quiet_hours")
    sending = (await chat.stack.api.get(f"/connections/{chat.connection}")).json()["sending"]
    await configure(chat)

    assert sending["paused_reasons"] == ["quiet_hours"]
    assert (await chat.settled(held["id"], "sent", "delivered"))["parked_reason"] is None


async def test_a_wrong_config_is_refused_with_its_place_and_changes_nothing(chat: Chat) -> None:
    url = f"/connections/{chat.connection}"
    before = (await chat.stack.api.get(url)).json()["config"]

    for config, pointer in (
        ({"pacing": {"profile": "new", "typing": False}}, "/config/pacing"),
        ({"pacing": {"profile": "custom", "rate_per_minute": 601}}, "/config/pacing/rate_per_minute"),
        ({"quiet_hours": {"start": "21:00", "end": "07:00", "time_zone": "Mars"}}, "/config/quiet_hours/time_zone"),
    ):
        answer = await chat.stack.api.patch(url, json={"config": config})
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]

    assert (await chat.stack.api.get(url)).json()["config"] == before


async def test_a_429_stops_the_whole_connection_and_then_only_slows_it(chat: Chat) -> None:
    """The last of this module: its connection is slow from here on."""
    await fault(chat, 429)
    first = await chat.accept("text", {"text": "one"})
    shown = await parked(chat, first, "rate_limited")
    second = await neighbour(chat).accept("text", {"text": "two"})

    other = await parked(chat, second, "rate_limited")
    connection = (await chat.stack.api.get(f"/connections/{chat.connection}")).json()

    assert (shown["status"], shown["attempts"], shown["error"]["code"]) == ("queued", 0, "RATE_OVERLIMIT")
    assert (other["status"], other["error"]) == ("queued", None)
    assert connection["sending"]["paused_reasons"] == ["rate_limited"]
    assert not [row for row in await chat.stack.wire(PHONE) if row["text"] in {"one", "two"}]
