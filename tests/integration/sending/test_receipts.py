"""Receipts come in crowds: a batch of them is one statement, whatever it holds."""

from datetime import UTC, datetime, timedelta

from asyncpg.connection import LoggedQuery

from shared.db import tries, writes
from shared.db.tries import Start
from shared.domain.ids import ConnectionId, WireId
from shared.domain.message import MessageStatus
from shared.domain.writes import MoveMessage, RecordReceipt
from tests.integration.sending.conftest import Office

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MESSAGES = 20


async def test_a_batch_of_receipts_is_one_statement_and_moves_every_message(office: Office) -> None:
    session = await office.session()
    sent = [await office.message(session) for _ in range(MESSAGES)]
    statements: list[str] = []

    def log(query: LoggedQuery) -> None:
        statements.append(query.query)

    async with office.queues.pool.acquire() as connection:
        await tries.begin(connection, [Start(message_id=one, job_id=f"job-{one}") for one in sent])
        moves = [
            MoveMessage(message_id=one, to=MessageStatus.SENT, send_no=1, wire_id=WireId(f"3EB0{one.hex}"), wire_at=AT)
            for one in sent
        ]
        await tries.record_sent(connection, moves)
        owner = ConnectionId((await office.row(sent[0]))["connection_id"])
        receipts = [
            RecordReceipt(
                connection_id=owner, wire_id=WireId(f"3EB0{one.hex}"), status=status, at=AT + timedelta(seconds=1)
            )
            for status in (MessageStatus.READ, MessageStatus.DELIVERED)
            for one in sent
        ]
        with connection.query_logger(log):
            await writes.apply(connection, receipts)

    assert len(statements) == 1, statements
    assert {await office.status(one) for one in sent} == {"read"}
