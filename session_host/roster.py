"""The sessions of this process: taken by lease, renewed, adopted from dead hosts, handed over, let go when lost."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from session_host import alone
from session_host.handover import Handover
from session_host.journal_feed import JournalFeed
from session_host.means import Means
from session_host.session import Session
from session_host.shares import Level, share_of
from session_host.state import StoreBack, StoreLost
from shared.db import connections, hosts, leases
from shared.db.leases import Lease, Renewed
from shared.db.pool import AWAY, COLLISION
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId, HostId
from shared.domain.session import WORKED_ON, SessionStatus
from shared.hosts.protocol import Full, HeldElsewhere, NoSession, OpenAnswer, Taken
from shared.queues.runtime import Queues, retry_collisions

# How soon a dead host's session is noticed, once its lease has lapsed.
LOOK_S: Final = 1.0
# A stopped Postgres accepts connections and answers nothing. Sockets are closed well before the lease ends.
_ANSWER_S: Final = 2.5
# The journals of dead processes of this machine are looked for again this often.
_ORPHANS_S: Final = 10.0
# A user wants it offline, and the job that does it seems lost.
_UNWANTED_S: Final = 60.0
# Of the sessions that have no host, as many are looked at.
_FREE: Final = 1000
# With what follows it ends within the 9 s that the supervisor waits.
_STOP_ALL_S: Final = 5.0
_GOODBYE_S: Final = 1.0

log = structlog.get_logger(__name__)


class Roster:
    """Owns every Session of this process. `run` keeps the leases; the commands look sessions up."""

    def __init__(
        self,
        host: HostId,
        queues: Queues,
        feed: JournalFeed,
        group: asyncio.TaskGroup,
        *,
        capacity: int,
        lease_s: float,
        moves_at_once: int = 0,
    ) -> None:
        self._host = host
        self._queues = queues
        self._feed = feed
        self._group = group
        self._capacity = capacity
        self._lease_s = lease_s
        self._moves_at_once = moves_at_once
        self._means: Means | None = None
        self._handover: Handover | None = None
        self._sessions: dict[ConnectionId, Session] = {}
        self._opening = asyncio.Lock()
        self._in_hand: ConnectionId | None = None  # what `open` is at: its lease may be ours and nobody hold it here
        self._renew_at = 0.0
        self._orphans_at = 0.0
        self._unwanted_since: dict[ConnectionId, float] = {}
        self._level = Level(settle_s=lease_s)
        self._moving: asyncio.Task[None] | None = None
        self._is_away = False
        self._is_closing = False

    def equip(self, means: Means, handover: Handover) -> None:
        """Give it what sessions work with; before `run`."""
        self._means = means
        self._fence = means.fence
        self._handover = handover

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, connection_id: ConnectionId) -> Session | None:
        return self._sessions.get(connection_id)

    async def open(self, connection_id: ConnectionId, *, restart: bool = False, to_unlink: bool = False) -> OpenAnswer:
        """Take the session, or say who has it. Twice is once; `restart` closes a socket that is open first.

        `to_unlink` takes one that is deleted or shall be offline.
        """
        async with self._opening:
            self._in_hand = connection_id
            try:
                return await self._open(connection_id, restart=restart, to_unlink=to_unlink)
            finally:
                self._in_hand = None

    async def run(self) -> None:
        """Renew, expire, adopt, once a second, until cancelled."""
        look: asyncio.Task[None] | None = None
        adopt: asyncio.Task[None] | None = None
        try:
            while True:
                look = look or asyncio.ensure_future(self._look())
                # Not a timeout: to cancel a statement asyncpg asks the server, which is what does not answer.
                await asyncio.wait({look}, timeout=answer_s(self._lease_s))
                if not look.done():
                    self._store_lost("no answer")
                else:
                    self._judge(look)
                    look = None
                if adopt is None or adopt.done():
                    adopt = None if self._is_away else self._begin_alone(self._adopt())
                await asyncio.sleep(LOOK_S)
        finally:
            for task in (look, adopt):
                if task is not None:
                    task.cancel()

    def _judge(self, look: "asyncio.Task[None]") -> None:
        try:
            look.result()
        except COLLISION as error:
            # Postgres answers, so sockets stay open; the next look is in a second.
            log.warning("look_collided", error=type(error).__name__)
        except (*AWAY, Unavailable) as error:
            self._store_lost(type(error).__name__)
        else:
            self._store_back()

    async def close(self) -> None:
        """Hand every session over: a send under way ends first, sockets close, leases go back, others take them."""
        self._is_closing = True
        assert self._handover is not None
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await hosts.stop(self._queues.pool, self._host)
        except (*AWAY, *COLLISION, Unavailable) as error:
            log.warning("goodbye_not_said", error=type(error).__name__)
        going = [
            asyncio.ensure_future(self._handover.give(session, reason="host_stopped"))
            for session in list(self._sessions.values())
        ]
        if going:
            # What does not stop in time ends with the process, a moment later, and its lease lapses.
            done, late = await asyncio.wait(going, timeout=_STOP_ALL_S)
            left = len(late) + sum(not task.result() for task in done)
            if left:
                log.warning("leases_left_to_lapse", sessions=left)

    # ---- one look

    async def _look(self) -> None:
        pool = self._queues.pool
        began = self._fence.now()
        await hosts.see(pool, self._host)
        if began >= self._renew_at or self._is_away:
            # One that is taken while Postgres answers is not in the answer.
            held = list(self._sessions.values())
            renewed = await retry_collisions(lambda: leases.renew(pool, self._host, ttl_s=self._lease_s))
            self._renew_at = began + self._lease_s / 3
            # Before the leases count as renewed: a lost session must not send in between.
            self._let_go(held, renewed, now=began)
            self._fence.renewed(began + self._lease_s)
            await self._release_strays(renewed)
        await self._expire()

    async def _expire(self) -> None:
        async def commit() -> None:
            async with self._queues.transaction() as tx:
                tx.fan_out(*await leases.expire(tx.connection))

        await retry_collisions(commit)

    def _let_go(self, held: list[Session], renewed: dict[ConnectionId, Renewed], *, now: float) -> None:
        for session in held:
            connection_id = session.connection_id
            if self._sessions.get(connection_id) is not session:
                continue
            found = renewed.get(connection_id)
            if found is None or found.epoch != session.epoch:
                log.warning("lease_lost", session_id=str(connection_id), epoch=session.epoch)
                session.leave()
                self._begin_alone(self._drop(session))
            elif found.is_wanted:
                self._unwanted_since.pop(connection_id, None)
            elif now - self._unwanted_since.setdefault(connection_id, now) > _UNWANTED_S:
                self._begin_alone(session.close(SessionStatus.CLOSED, reason="not_wanted"))

    async def _release_strays(self, renewed: dict[ConnectionId, Renewed]) -> None:
        """Leases of sessions that this process lost hold of, so that somebody takes them up again.

        It waits for no `open`: that may take longer than the others' leases last. What is taken anew meanwhile has
        another epoch.
        """
        for connection_id, found in renewed.items():
            if connection_id not in self._sessions and connection_id != self._in_hand:
                await leases.release(self._queues.pool, connection_id, epoch=found.epoch)

    async def _adopt(self) -> None:
        try:
            if self._fence.now() >= self._orphans_at:
                self._orphans_at = self._fence.now() + _ORPHANS_S
                await self._feed.replay_orphans()
            if self._is_closing:
                return
            free = await leases.adoptable(self._queues.pool, limit=_FREE)
            share = share_of(self._host, await hosts.loads(self._queues.pool), free=len(free))
            for connection_id in self._to_take(free, share):
                await self._take_up(connection_id)
            if self._moving is None or self._moving.done():
                self._moving = self._begin_alone(self._hand_over(share, free=len(free)))
        except COLLISION as error:
            log.warning("adoption_collided", error=type(error).__name__)
        except (*AWAY, Unavailable) as error:
            self._store_lost(type(error).__name__)

    async def _take_up(self, connection_id: ConnectionId) -> None:
        """One that cannot be taken does not keep the others from having a host. Raises what tells of Postgres."""
        log.info("session_adopted", session_id=str(connection_id))
        try:
            await self.open(connection_id)
        except (*AWAY, *COLLISION, Unavailable):
            raise
        except Exception as error:
            log.exception("session_not_taken", session_id=str(connection_id), error=type(error).__name__)

    def _to_take(self, free: list[ConnectionId], share: int) -> list[ConnectionId]:
        """As many as may begin now; the rest is looked at again in a second, here and elsewhere."""
        assert self._means is not None
        room = min(self._capacity - len(self._sessions), self._means.turns.free)
        strange = [one for one in free if one not in self._sessions]
        return self._level.takes(strange, share=share, held=len(self._sessions), room=room, now_s=self._fence.now())

    async def _hand_over(self, share: int, *, free: int) -> None:
        """Give what is beyond our part to hosts that have fewer, some sessions at a time, never one that sends."""
        assert self._handover is not None
        handover = self._handover
        count = self._level.gives(share=share, held=len(self._sessions), free=free, now_s=self._fence.now())
        idle = [one for one in self._sessions.values() if one.may_send and not handover.is_sending(one)]
        going = idle[: min(count, self._moves_at_once)]
        for session in going:
            session.leave()
        await asyncio.gather(*(handover.give(session, reason="rebalanced") for session in going))

    def _store_lost(self, why: str) -> None:
        """Without the store messages cannot be decrypted, but WhatsApp would think that they arrived."""
        if not self._is_away:
            log.warning("store_lost", why=why, sessions=len(self._sessions))
            for session in self._sessions.values():
                session.tell(StoreLost())
        self._is_away = True

    def _store_back(self) -> None:
        if self._is_away:
            log.info("store_back", sessions=len(self._sessions))
            for session in self._sessions.values():
                session.tell(StoreBack())
        self._is_away = False

    def _begin_alone(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[None]":
        return alone.begin(self._group, work, fault="roster_task_failed")

    # ---- one session

    async def _open(self, connection_id: ConnectionId, *, restart: bool, to_unlink: bool) -> OpenAnswer:
        held = self._sessions.get(connection_id)
        if held is not None and not restart:
            return Taken(status=held.phase.value, epoch=held.epoch)
        if held is not None:
            await self._drop(held)
        if len(self._sessions) >= self._capacity or self._is_closing:
            return Full()
        began = self._fence.now()
        lease = await self._claim(connection_id, to_unlink=to_unlink)
        if lease is None:
            owner = await hosts.owner(self._queues.pool, connection_id)
            return NoSession() if owner is None else HeldElsewhere()
        # The others' leases are no younger than this one.
        if not self._sessions:
            self._fence.renewed(began + self._lease_s)
        await self._begin(lease)
        return Taken(status=lease.status.value, epoch=lease.epoch)

    async def _claim(self, connection_id: ConnectionId, *, to_unlink: bool) -> Lease | None:
        async def commit() -> Lease | None:
            async with self._queues.transaction() as tx:
                lease = await leases.claim(
                    tx.connection, connection_id, self._host, ttl_s=self._lease_s, to_unlink=to_unlink
                )
                if lease is not None and lease.status not in WORKED_ON:
                    moved = await connections.move(
                        tx.connection, connection_id, SessionStatus.INITIALIZING, reason="start", epoch=lease.epoch
                    )
                    if moved.fan_out:
                        tx.fan_out(connection_id)
                return lease

        return await retry_collisions(commit)

    async def _begin(self, lease: Lease) -> None:
        assert self._means is not None
        connection_id = lease.connection_id
        # What a dead process wrote down comes before what this one will receive.
        await self._feed.replay_orphans(connection_id)
        session = Session(lease, self._means, record=lambda found: self._feed.record(connection_id, found))
        self._sessions[connection_id] = session
        self._group.create_task(self._keep(session))

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        except Exception as error:
            # The root of a session: its fault must not end the others. Its lease is a stray and released.
            log.exception("session_failed", session_id=str(session.connection_id), error=type(error).__name__)
            await session.drop()
        finally:
            if self._sessions.get(session.connection_id) is session:
                del self._sessions[session.connection_id]
                self._unwanted_since.pop(session.connection_id, None)

    async def _drop(self, session: Session) -> None:
        if self._sessions.get(session.connection_id) is session:
            del self._sessions[session.connection_id]
        await session.drop()


def answer_s(lease_s: float) -> float:
    """How long Postgres may take to answer before the sockets close: so that they are closed before the lease ends."""
    return min(_ANSWER_S, lease_s / 3)
