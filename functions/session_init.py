"""Ask a session host to open a socket and pair."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from functions.resources import Resources
from functions.work import work
from shared.db import connections, leases
from shared.domain.errors import HostUnreachable
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.domain.session import SessionStatus
from shared.domain.writes import MoveConnection, Write
from shared.hosts.protocol import Taken

UNREACHABLE: Final = "HOST_UNREACHABLE"


async def handle(job: Job, use: Resources) -> Outcome:
    """Done when a host holds the session; what follows (QR code, connected) is its connection's status and events."""
    connection_id = _session(job.data)
    standing = await leases.standing(use.pool, connection_id)
    if standing is None or standing.is_deleted:
        return Discard(reason="There is no such connection any more.")
    async with use.pool.acquire() as connection:
        await connections.set_desired(connection, connection_id, online=True)
    try:
        answer = await use.hosts.open(connection_id, restart=bool(job.data.get("restart")))
    except HostUnreachable as error:
        return Retry(
            failure=Failure(code=UNREACHABLE, detail=error.detail), last_writes=tuple(on_ended(job.data, None))
        )
    if not isinstance(answer, Taken):
        return Discard(reason="The connection was deleted meanwhile.")
    return Done(result={"success": True, "sessionId": str(connection_id), "status": answer.status})


def on_ended(data: Any, _failure: Failure | None) -> Sequence[Write]:  # noqa: ANN401 - a job's data
    """No host took it: the connection failed, and says why. One that a host has by now may not go there by this."""
    return [MoveConnection(connection_id=_session(data), to=SessionStatus.FAILED, reason=UNREACHABLE)]


def _session(data: Any) -> ConnectionId:  # noqa: ANN401 - a job's data
    return ConnectionId(UUID(data["sessionId"]))


queue = work(QueueName.SESSION_INIT, handle, on_ended=on_ended)
task, broker, handler = queue.task, queue.broker, queue.handler
