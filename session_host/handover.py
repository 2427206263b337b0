"""Hands a session to whichever host takes it: no send is cut, and its socket closes before its lease is given up."""

from typing import Final

import structlog

from session_host.sends import SendDesk
from session_host.session import Session
from shared.db import connections, leases
from shared.db.pool import AWAY, COLLISION
from shared.domain.errors import Unavailable
from shared.domain.session import SessionStatus
from shared.queues.runtime import Queues, retry_collisions

# A message that is on its way gets this long before its socket is closed.
_SETTLE_S: Final = 2.0

log = structlog.get_logger(__name__)


class Handover:
    """Any number of sessions at once."""

    def __init__(self, queues: Queues, desk: SendDesk) -> None:
        self._queues = queues
        self._desk = desk

    def is_sending(self, session: Session) -> bool:
        """Whether a message of it is under way."""
        return self._desk.is_sending(session.connection_id)

    async def give(self, session: Session, *, reason: str) -> bool:
        """Close it here and give its lease back, `disconnected` until another has it; False: its lease must lapse.

        A send that comes meanwhile waits for the next host.
        """
        session.leave()
        try:
            await self._disconnect(session, reason, release=False)
        except (*AWAY, *COLLISION, Unavailable) as error:
            log.warning("handover_not_announced", session_id=str(session.connection_id), error=type(error).__name__)
        await self._desk.settle(session.connection_id, within_s=_SETTLE_S)
        # Its roster has it until its socket is closed: a lease that belongs to nobody here is given back.
        await session.drop()
        try:
            await self._disconnect(session, reason, release=True)
        except (*AWAY, *COLLISION, Unavailable) as error:
            log.warning("lease_not_given_back", session_id=str(session.connection_id), error=type(error).__name__)
            return False
        log.info("session_handed_over", session_id=str(session.connection_id), reason=reason)
        return True

    async def _disconnect(self, session: Session, reason: str, *, release: bool) -> None:
        """As if the lease had lapsed this moment. The session's own writer may have said something else in between."""

        async def commit() -> None:
            async with self._queues.transaction() as tx:
                moved = await connections.move(
                    tx.connection,
                    session.connection_id,
                    SessionStatus.DISCONNECTED,
                    reason=reason,
                    epoch=session.epoch,
                )
                if moved.fan_out:
                    tx.fan_out(session.connection_id)
                if release:
                    await leases.release(tx.connection, session.connection_id, epoch=session.epoch)

        await retry_collisions(commit)
