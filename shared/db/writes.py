"""How each Write is applied: runs of one kind in one statement, in the order they were given."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from shared.db import connections, media, messages, paces, tries, watch, webhook_deliveries, webhooks
from shared.db.pool import Connection
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.jobs import QueueName
from shared.domain.pace_writes import ClearRefusals, HoldMessage, RestrictChat, RestSession, SlowSession
from shared.domain.webhook import DisableEndpoint, EndDelivery, PostponeDelivery, RecordAttempt
from shared.domain.writes import (
    CountIgnored,
    ExpectMedia,
    GiveBackTry,
    MoveConnection,
    MoveMessage,
    RecordEvent,
    RecordReceipt,
    SettleMedia,
    StoreFromWire,
    Write,
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What the writes made necessary: connections to fan out, queues to ring, both after or with the same commit."""

    fan_out: set[ConnectionId | None] = field(default_factory=set)
    ready: set[QueueName] = field(default_factory=set)


async def _move_messages(connection: Connection, writes: Sequence[MoveMessage], applied: Applied) -> None:
    answers: dict[MessageId, MoveMessage] = {}
    others = []
    for write in writes:
        if tries.is_answer(write) and write.message_id not in answers:
            answers[write.message_id] = write
        else:
            others.append(write)
    # A message only moves forward, so it does not matter which of its moves comes first.
    if answers:
        applied.fan_out.update(await tries.record_sent(connection, list(answers.values())))
    if others:
        applied.fan_out.update(await messages.move(connection, others))


async def _give_back(connection: Connection, writes: Sequence[GiveBackTry], _applied: Applied) -> None:
    await tries.give_back(connection, writes)


async def _hold_messages(connection: Connection, writes: Sequence[HoldMessage], applied: Applied) -> None:
    applied.fan_out.update(await paces.hold_messages(connection, writes))


async def _restrict_chats(connection: Connection, writes: Sequence[RestrictChat], _applied: Applied) -> None:
    await paces.restrict_chats(connection, writes)


async def _clear_refusals(connection: Connection, writes: Sequence[ClearRefusals], _applied: Applied) -> None:
    await paces.clear_refusals(connection, writes)


async def _slow_sessions(connection: Connection, writes: Sequence[SlowSession], _applied: Applied) -> None:
    await paces.slow_sessions(connection, writes)


async def _rest_sessions(connection: Connection, writes: Sequence[RestSession], _applied: Applied) -> None:
    await paces.rest_sessions(connection, writes)


async def _record_receipts(connection: Connection, writes: Sequence[RecordReceipt], applied: Applied) -> None:
    applied.fan_out.update(await messages.record_receipts(connection, writes))


async def _store_from_wire(connection: Connection, writes: Sequence[StoreFromWire], applied: Applied) -> None:
    applied.fan_out.update(await messages.store_from_wire(connection, writes))
    heard = {(write.connection_id, write.jid) for write in writes if not write.from_me and not write.backfilled}
    if heard and await paces.lift_heard(connection, heard):
        applied.ready.add(QueueName.MESSAGE_SEND)


async def _expect_media(connection: Connection, writes: Sequence[ExpectMedia], _applied: Applied) -> None:
    await media.expect(connection, writes)


async def _settle_media(connection: Connection, writes: Sequence[SettleMedia], applied: Applied) -> None:
    applied.fan_out.update(await media.settle(connection, writes))


async def _count_ignored(connection: Connection, writes: Sequence[CountIgnored], _applied: Applied) -> None:
    # In one order for everybody, as two batches may meet on the same rows.
    for kind, count in sorted(Counter(write.kind for write in writes).items()):
        await watch.add(connection, "messages_ignored", [kind], count)


async def _move_connections(connection: Connection, writes: Sequence[MoveConnection], applied: Applied) -> None:
    for write in writes:
        moved = await connections.move(
            connection, write.connection_id, write.to, reason=write.reason, epoch=write.epoch
        )
        if moved.fan_out:
            applied.fan_out.add(write.connection_id)
        if moved.resumes:
            applied.ready.add(QueueName.MESSAGE_SEND)


async def _record_events(connection: Connection, writes: Sequence[RecordEvent], applied: Applied) -> None:
    for write in writes:
        if await connections.record_event(
            connection, write.connection_id, write.type, write.payload, severity=write.severity
        ):
            applied.fan_out.add(write.connection_id)


async def _record_attempts(connection: Connection, writes: Sequence[RecordAttempt], applied: Applied) -> None:
    applied.fan_out.update(await webhook_deliveries.record_attempts(connection, writes))


async def _postpone_deliveries(connection: Connection, writes: Sequence[PostponeDelivery], _applied: Applied) -> None:
    await webhook_deliveries.postpone(connection, writes)


async def _end_deliveries(connection: Connection, writes: Sequence[EndDelivery], _applied: Applied) -> None:
    await webhook_deliveries.end(connection, writes)


async def _disable_endpoints(connection: Connection, writes: Sequence[DisableEndpoint], applied: Applied) -> None:
    for write in writes:
        if await webhooks.disable(connection, write):
            applied.fan_out.add(write.connection_id)


Applier = Callable[[Connection, Sequence[Any], Applied], Awaitable[None]]

APPLIERS: Final[dict[type[Write], Applier]] = {
    MoveMessage: _move_messages,
    GiveBackTry: _give_back,
    HoldMessage: _hold_messages,
    RestrictChat: _restrict_chats,
    ClearRefusals: _clear_refusals,
    SlowSession: _slow_sessions,
    RestSession: _rest_sessions,
    RecordReceipt: _record_receipts,
    StoreFromWire: _store_from_wire,
    ExpectMedia: _expect_media,
    SettleMedia: _settle_media,
    MoveConnection: _move_connections,
    CountIgnored: _count_ignored,
    RecordEvent: _record_events,
    RecordAttempt: _record_attempts,
    PostponeDelivery: _postpone_deliveries,
    EndDelivery: _end_deliveries,
    DisableEndpoint: _disable_endpoints,
}


async def apply(connection: Connection, writes: Sequence[Write]) -> Applied:
    """Apply the writes in the caller's transaction, in order; each is harmless when applied twice.

    EnqueueJob is not among them: jobs are the queues' business, and they sit above this package.
    """
    applied = Applied()
    for kind, run in groupby(writes, key=type):
        await APPLIERS[kind](connection, list(run), applied)
    return applied
