"""Close a session gracefully: stop its socket, or unlink its phone, and clean its state."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from functions.resources import Resources
from functions.work import work
from shared.db import connections, leases
from shared.db.hosts import Owner
from shared.db.leases import Standing
from shared.domain.errors import HostUnreachable
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.domain.session import SessionStatus
from shared.domain.writes import MoveConnection, Write
from shared.hosts import protocol

# What a close is asked for: the seed's `manual` is a stop. `logout` and `delete` unlink the phone.
STOP, LOGOUT, DELETE = "stop", "logout", "delete"
_UNLINKS: Final = frozenset({LOGOUT, DELETE})
# The host may have it done, or not: the next try finds out.
_NOT_DONE: Final = Failure(code="HOST_UNREACHABLE", detail="The session's host did not answer, or lost the session.")
_NOT_UNLINKED: Final = Failure(code="HOST_UNREACHABLE", detail="WhatsApp did not confirm that the phone was unlinked.")


async def handle(job: Job, use: Resources) -> Outcome:
    """Done when nothing is open any more; running it again finds nothing to do."""
    connection_id = ConnectionId(UUID(job.data["sessionId"]))
    reason = job.data.get("reason", STOP)
    standing = await leases.standing(use.pool, connection_id)
    if standing is None:
        return Discard(reason="There is no such connection.")
    async with use.pool.acquire() as connection:
        await connections.set_desired(connection, connection_id, online=False)
    try:
        owner = await use.hosts.owner(connection_id)
        if reason in _UNLINKS and standing.device_jid is not None:
            return await _unlink(connection_id, use, owner, reason=reason)
        return await _close(connection_id, use, owner, standing, reason=reason)
    except HostUnreachable:
        return _again(connection_id, reason, _NOT_DONE)


async def _close(
    connection_id: ConnectionId, use: Resources, owner: Owner | None, standing: Standing, *, reason: str
) -> Outcome:
    """The socket only; without a host there is none."""
    to = SessionStatus.LOGGED_OUT if reason == LOGOUT else SessionStatus.CLOSED
    if owner is not None:
        answer = await use.hosts.close(owner, protocol.Close(connection_id=connection_id, epoch=owner.epoch))
        if not isinstance(answer, protocol.Ended):
            return _again(connection_id, reason, _NOT_DONE)
    elif standing.status is not to:
        return _done(connection_id, to, MoveConnection(connection_id=connection_id, to=to, reason=reason))
    return _done(connection_id, to)


async def _unlink(connection_id: ConnectionId, use: Resources, owner: Owner | None, *, reason: str) -> Outcome:
    """Only a session that is logged in can be unlinked, so one without a host gets one for that."""
    if owner is None:
        await use.hosts.open(connection_id, to_unlink=True)
        owner = await use.hosts.owner(connection_id)
    if owner is None:
        return _again(connection_id, reason, _NOT_DONE)
    command = protocol.Logout(connection_id=connection_id, epoch=owner.epoch, is_deleted=reason == DELETE)
    answer = await use.hosts.logout(owner, command)
    if isinstance(answer, protocol.Ended):
        return _done(connection_id, SessionStatus.CLOSED if reason == DELETE else SessionStatus.LOGGED_OUT)
    return _again(connection_id, reason, _NOT_UNLINKED)


def _done(connection_id: ConnectionId, to: SessionStatus, *writes: MoveConnection) -> Done:
    result: dict[str, Any] = {"success": True, "sessionId": str(connection_id), "status": to.value}
    return Done(result=result, writes=writes)


def _again(connection_id: ConnectionId, reason: str, failure: Failure) -> Retry:
    return Retry(failure=failure, last_writes=(_given_up(connection_id, reason),))


def _given_up(connection_id: ConnectionId, reason: str) -> MoveConnection:
    """Closed here, and still linked: its host notices that nobody wants it any more."""
    why = f"{reason}_not_confirmed" if reason in _UNLINKS else reason
    return MoveConnection(connection_id=connection_id, to=SessionStatus.CLOSED, reason=why)


def on_ended(data: Mapping[str, Any], _failure: Failure) -> Sequence[Write]:
    """It stalled, or raised to the end: as when no host answers."""
    return [_given_up(ConnectionId(UUID(data["sessionId"])), data.get("reason", STOP))]


queue = work(QueueName.SESSION_CLOSE, handle, on_ended=on_ended)
task, broker, handler = queue.task, queue.broker, queue.handler
