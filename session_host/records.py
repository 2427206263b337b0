"""Writes a session's changes into Postgres, each with its event and under the lease's epoch."""

from typing import Final, assert_never

import structlog

from session_host.state import Describe, ForgetDevice, GiveUp, Link, Move, RetryAfter, ShowQr
from shared.db import connections, leases, messages, paces
from shared.db.leases import Lease
from shared.domain.ids import ConnectionId
from shared.domain.jobs import QueueName
from shared.domain.message import MessageStatus
from shared.domain.writes import ErrorInfo, MoveMessage
from shared.queues import ledger
from shared.queues.runtime import Queues, Transaction, retry_collisions

Change = Move | ShowQr | Link | Describe | ForgetDevice | RetryAfter | GiveUp

# Parked messages of a number that is linked no more, per statement.
_CANCEL_BATCH: Final = 500
_NUMBER_CHANGED: Final = ErrorInfo(
    code="NUMBER_CHANGED", detail="Another number was linked before this message could be sent.", retryable=False
)

log = structlog.get_logger(__name__)


class SessionRecords:
    """One process's way to its sessions' rows. Everything raises what asyncpg raises while Postgres is away."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    async def write(self, lease: Lease, change: Change) -> None:
        """Make one change; again is harmless. A lease that is another host's by now changes nothing."""

        async def commit() -> None:
            async with self._queues.transaction() as tx:
                await self._apply(tx, lease, change)

        await retry_collisions(commit)

    async def show_pair_code(self, lease: Lease, code: str, *, lives_s: float) -> None:
        """Show a pairing code, with its event."""

        async def commit() -> None:
            async with self._queues.transaction() as tx:
                shown = await connections.set_pair_code(
                    tx.connection, lease.connection_id, epoch=lease.epoch, code=code, lives_s=lives_s
                )
                if shown:
                    tx.fan_out(lease.connection_id)

        await retry_collisions(commit)

    async def _apply(self, tx: Transaction, lease: Lease, change: Change) -> None:
        session, epoch = lease.connection_id, lease.epoch
        match change:
            case Move():
                await self._move(tx, lease, change)
            case ShowQr():
                shown = await connections.set_qr(
                    tx.connection,
                    session,
                    epoch=epoch,
                    code=change.code,
                    attempt=change.attempt,
                    lives_s=change.lives_s,
                )
                if shown:
                    tx.fan_out(session)
            case Link():
                await self._link(tx, lease, change.device_jid, lid=None, push_name=change.push_name)
            case Describe(profile):
                await self._link(tx, lease, profile.device_jid, lid=profile.lid, push_name=profile.push_name)
            case ForgetDevice():
                await connections.clear_linked(tx.connection, session, epoch=epoch)
            case RetryAfter(seconds):
                await leases.retry_after(tx.connection, session, epoch=epoch, seconds=seconds)
            case GiveUp():
                await leases.release(tx.connection, session, epoch=epoch)
            case _:
                assert_never(change)

    async def _move(self, tx: Transaction, lease: Lease, change: Move) -> None:
        session = lease.connection_id
        moved = await connections.move(tx.connection, session, change.to, reason=change.reason, epoch=lease.epoch)
        if moved.fan_out:
            tx.fan_out(session)
        if moved.resumes:
            tx.ring(QueueName.MESSAGE_SEND)
        if moved.is_refused:
            log.info("session_move_refused", session_id=str(session), status=change.to.value)

    async def _link(
        self, tx: Transaction, lease: Lease, device_jid: str, *, lid: str | None, push_name: str | None
    ) -> None:
        user, _, server = device_jid.partition("@")
        phone = user.partition(":")[0]
        is_ours, previous = await leases.lock_number(tx.connection, lease.connection_id, epoch=lease.epoch)
        if not is_ours:
            return
        await connections.set_linked(
            tx.connection,
            lease.connection_id,
            epoch=lease.epoch,
            jid=f"{phone}@{server}",
            device_jid=device_jid,
            phone=phone,
            lid=lid,
            push_name=push_name,
        )
        if previous is not None and previous != phone:
            await self._cancel_parked(tx, lease.connection_id)
            await paces.begin_anew(tx.connection, lease.connection_id)

    async def _cancel_parked(self, tx: Transaction, connection_id: ConnectionId) -> None:
        """What waited for the old number must not go out under the new one; what is being sent is left to its job."""
        while waiting := await messages.waiting_of_connection(tx.connection, connection_id, limit=_CANCEL_BATCH):
            jobs = [pk for _, pk in waiting if pk is not None]
            ended = await ledger.cancel(tx.connection, pks=jobs, reason=_NUMBER_CHANGED.detail)
            moves = [
                MoveMessage(message_id=one, to=MessageStatus.CANCELED, error=_NUMBER_CHANGED)
                for one, pk in waiting
                if pk is None or pk in ended
            ]
            if not moves:
                return
            await tx.apply(moves)
