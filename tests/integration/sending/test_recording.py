"""Recording sends: a batch leaves the same rows as `message_move_v1` for each, whatever happened since their tries."""

from datetime import UTC, datetime
from typing import Any

from shared.db import messages, tries, writes
from shared.db.tries import Start
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.message import MessageStatus
from shared.domain.writes import ErrorInfo, MoveMessage, RecordReceipt
from tests.integration.sending.conftest import Office

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ERROR = ErrorInfo(code="TIMEOUT", detail="no answer", retryable=True)


async def begun(office: Office, *messages_: MessageId) -> None:
    async with office.queues.pool.acquire() as connection:
        found = await tries.begin(connection, [Start(message_id=one, job_id=f"job-{one}") for one in messages_])
    assert all(one is not None and one.is_begun for one in found)


def answer(message: MessageId, *, send_no: int = 1, wire_id: str | None = None) -> MoveMessage:
    wire = WireId(f"3EB0{message.hex}" if wire_id is None else wire_id)
    return MoveMessage(message_id=message, to=MessageStatus.SENT, send_no=send_no, wire_id=wire, wire_at=AT)


async def traces(office: Office, message: MessageId) -> dict[str, Any]:
    """All that a send leaves behind, without what tells two messages apart."""
    row = dict(await office.row(message))
    attempts = await office.queues.pool.fetch(
        "SELECT send_no, outcome, error, finished_at IS NULL AS runs, wa_message_id FROM message_attempts"
        " WHERE message_id = $1 ORDER BY send_no",
        message,
    )
    history = await office.queues.pool.fetch(
        "SELECT from_status, to_status, detail FROM message_transitions WHERE message_id = $1 ORDER BY id", message
    )
    events = await office.queues.pool.fetch(
        "SELECT type, category, severity, payload, fan_out FROM events WHERE message_id = $1 ORDER BY position", message
    )
    wires = await office.queues.pool.fetch(
        "SELECT wire_id, status, delivered_at FROM wire_ids WHERE message_id = $1", message
    )
    own = {"id", "message_id", "created_at", "job_pk", "send_started_at", "connection_id"}
    found = {
        "row": {name: value for name, value in row.items() if name not in own},
        "attempts": [dict(one) for one in attempts],
        "history": [dict(one) for one in history],
        "events": [
            dict(one) | {"payload": {name: value for name, value in one["payload"].items() if name not in own}}
            for one in events
        ],
        "wires": [dict(one) for one in wires],
    }
    return _without(found, message.hex)


def _without(found: Any, name: str) -> Any:
    match found:
        case dict():
            return {key: _without(value, name) for key, value in found.items()}
        case list():
            return [_without(value, name) for value in found]
        case str():
            return found.replace(name, "…")
        case _:
            return found


async def test_a_batch_leaves_what_one_by_one_leaves(office: Office) -> None:
    session = await office.session()
    await office.queues.pool.execute(
        "INSERT INTO webhook_endpoints (id, tenant_id, url, secrets_encrypted, events)"
        " SELECT gen_random_uuid(), tenant_id, 'https://example.com/', '', '{message.sent}' FROM connections"
    )
    together = [await office.message(session) for _ in range(3)]
    alone = await office.message(session)
    await begun(office, *together, alone)

    async with office.queues.pool.acquire() as connection:
        fan_out = await tries.record_sent(connection, [answer(one) for one in together])
        await messages.move(connection, [answer(alone)])

    expected = await traces(office, alone)
    assert expected["row"]["status"] == "sent"
    assert [one["type"] for one in expected["events"]] == ["message.sent"]
    assert expected["events"][0]["fan_out"]
    assert [await traces(office, one) for one in together] == [expected] * 3
    assert {str(one) for one in fan_out} == {session}


async def test_events_come_in_the_order_of_the_batch(office: Office) -> None:
    session = await office.session()
    together = sorted([await office.message(session) for _ in range(5)], reverse=True)
    await begun(office, *together)

    async with office.queues.pool.acquire() as connection:
        await tries.record_sent(connection, [answer(one) for one in together])

    rows = await office.queues.pool.fetch("SELECT message_id FROM events ORDER BY position")
    assert [row["message_id"] for row in rows] == together


async def test_a_receipt_that_came_first_takes_its_message_on(office: Office) -> None:
    session = await office.session()
    early, plain = await office.message(session), await office.message(session)
    await begun(office, early, plain)
    receipt = RecordReceipt(
        connection_id=ConnectionId((await office.row(early))["connection_id"]),
        wire_id=WireId(f"3EB0{early.hex}"),
        status=MessageStatus.DELIVERED,
        at=AT,
    )
    async with office.queues.pool.acquire() as connection:
        await messages.record_receipts(connection, [receipt])
        await tries.record_sent(connection, [answer(early), answer(plain)])

    assert (await office.status(early), await office.status(plain)) == ("delivered", "sent")
    rows = await office.queues.pool.fetch("SELECT type FROM events WHERE message_id = $1 ORDER BY position", early)
    assert [row["type"] for row in rows] == ["message.sent", "message.delivered"]


async def test_recording_twice_is_recording_once(office: Office) -> None:
    message = await office.message(await office.session())
    await begun(office, message)
    async with office.queues.pool.acquire() as connection:
        await tries.record_sent(connection, [answer(message)])
        once = await traces(office, message)
        again = await tries.record_sent(connection, [answer(message)])

    assert again == set()
    twice = await traces(office, message)
    assert (twice["row"], twice["events"], twice["history"]) == (once["row"], once["events"], once["history"])


async def test_an_answer_to_an_older_try_is_a_fact_all_the_same(office: Office) -> None:
    session = await office.session()
    message, gone = await office.message(session), await office.message(session)
    await begun(office, message, gone)
    async with office.queues.pool.acquire() as connection:
        await tries.begin(connection, [Start(message_id=message, job_id="again", over=1)])
        await connection.execute("DELETE FROM messages WHERE id = $1", gone)
        await tries.record_sent(connection, [answer(message, send_no=1), answer(gone)])

    row = await office.row(message)
    assert (row["status"], row["wa_message_id"]) == ("sent", f"3EB0{message.hex}")
    outcomes = await office.queues.pool.fetch("SELECT outcome FROM message_attempts ORDER BY send_no")
    assert [one["outcome"] for one in outcomes] == ["sent", None]


async def test_a_run_of_moves_may_hold_answers_and_others_of_the_same_messages(office: Office) -> None:
    session = await office.session()
    answered, failed, both = [await office.message(session) for _ in range(3)]
    await begun(office, answered, failed, both)
    moves = [
        answer(answered),
        MoveMessage(message_id=failed, to=MessageStatus.FAILED, send_no=1, error=ERROR, retry_in_s=2),
        MoveMessage(message_id=both, to=MessageStatus.UNKNOWN, send_no=1, error=ERROR),
        answer(both),
        answer(both),
    ]
    async with office.queues.transaction() as tx:
        await writes.apply(tx.connection, moves)

    assert [await office.status(one) for one in (answered, failed, both)] == ["sent", "failed", "sent"]
