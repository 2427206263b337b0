"""Feeds the journal to the queues: batches of jobs, one transaction each, and only then the entries are forgotten."""

import asyncio
from collections import OrderedDict
from collections.abc import Generator, Sequence
from typing import Any, Final, Protocol

import structlog

from session_host.journal import Batch, Journal, JournalFull
from session_host.journal_entries import Entry, entry_of, numbered, only_lids, shown
from session_host.votes import PollSecret, open_vote
from session_host.whatsapp.port import Undecryptable, WireRecord
from shared import failpoints
from shared.db.pool import AWAY, COLLISION, DatabaseError
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId, WireId
from shared.domain.jobs import QueueName
from shared.domain.writes import EnqueueJob, RecordEvent, Write
from shared.queues.new_jobs import from_data
from shared.queues.runtime import Queues, retry_collisions

# Nobody wakes the feed when an append is lost on the way to the loop, so it looks by itself too.
_LOOK_S: Final = 1.0
# After Postgres was away: 0.2 s, then 0.4, 0.8, 1.6, 2 s.
_FIRST_PAUSE_S: Final = 0.2
_MOST_PAUSE_S: Final = 2.0
_COMMIT_S: Final = 10.0
# A message that cannot be decrypted comes again as often as its sender tries; it is told of once.
_REMEMBERED: Final = 2_000

log = structlog.get_logger(__name__)


class Secrets(Protocol):
    """Knows the numbers behind `@lid` JIDs, and what opens the votes in polls."""

    async def numbers_of(self, lids: list[str]) -> dict[str, str]: ...
    async def poll_secrets(self, wire_ids: list[str]) -> dict[str, list[PollSecret]]: ...


class JournalFeed:
    """The one reader of this process's journal, and the one that replays what dead processes left."""

    def __init__(self, journal: Journal, queues: Queues, store: Secrets) -> None:
        self._journal = journal
        self._queues = queues
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._appended = asyncio.Event()
        self._replaying = asyncio.Lock()
        self._undecryptable: OrderedDict[tuple[ConnectionId, WireId], None] = OrderedDict()

    def record(self, connection_id: ConnectionId, found: WireRecord) -> None:
        """Write down what came in; called in the library's threads.

        Raises OSError when the disk refuses it; JournalFull when it is written, and the socket must close all the same.
        """
        key = (connection_id, found.wire_id) if isinstance(found, Undecryptable) else None
        if key in self._undecryptable:
            return
        full: JournalFull | None = None
        for entry in entry_of(connection_id, found):
            try:
                self._journal.append(connection_id, entry)
            except JournalFull as error:
                full = error
        if key is not None:
            self._remember(key)
        failpoints.reach("journal_appended")
        try:
            self._loop.call_soon_threadsafe(self._appended.set)
        except RuntimeError:
            # The process is ending; the next one replays the entry.
            return
        if full is not None:
            raise full

    def _remember(self, key: tuple[ConnectionId, WireId]) -> None:
        self._undecryptable[key] = None
        if len(self._undecryptable) > _REMEMBERED:
            self._undecryptable.popitem(last=False)

    async def run(self) -> None:
        """Feed until cancelled, through outages of Postgres."""
        pause_s = 0.0
        while True:
            try:
                is_empty = not await self._feed_once()
                pause_s = 0.0
            except (*AWAY, *COLLISION, Unavailable) as error:
                pause_s = min(max(pause_s * 2, _FIRST_PAUSE_S), _MOST_PAUSE_S)
                log.warning("journal_waits", error=type(error).__name__, pause_s=pause_s)
                await asyncio.sleep(pause_s)
                continue
            if is_empty:
                await self._until_appended()

    async def drain(self) -> None:
        """Feed all that is there now. Raises Unavailable and what asyncpg raises when Postgres is away."""
        while await self._feed_once():
            pass

    async def replay_orphans(self, connection_id: ConnectionId | None = None) -> int:
        """Feed what dead processes of this machine left, of one session or of all; the number of entries.

        What the disk does not give now is left for another time: no session waits for that.
        """
        count = 0
        async with self._replaying:
            batches = self._journal.orphans(connection_id)
            try:
                while (batch := await self._next_of(batches)) is not None:
                    await self._commit(batch)
                    count += len(batch.entries)
            finally:
                await asyncio.to_thread(batches.close)
        if count:
            log.info("journal_replayed", entries=count)
        return count

    async def _next_of(self, orphans: Generator[Batch, None, None]) -> Batch | None:
        try:
            return await asyncio.to_thread(next, orphans, None)
        except OSError as error:
            # By its type it could be taken for Postgres being away, and every socket would close.
            log.error("orphans_unreadable", error=type(error).__name__, errno=error.errno)  # noqa: TRY400 - paths
            return None

    async def _until_appended(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._appended.wait()
        except TimeoutError:
            pass
        self._appended.clear()

    async def _feed_once(self) -> bool:
        batch = await asyncio.to_thread(self._journal.batch)
        if batch is None:
            return False
        await self._commit(batch)
        failpoints.reach("journal_after_commit")
        await asyncio.to_thread(self._journal.done, batch)
        return True

    async def _commit(self, batch: Batch) -> None:
        if not batch.entries:
            return
        entries = await self._opened(await self._by_number(batch.entries))
        failpoints.reach("journal_before_commit")
        try:
            await self._apply(entries)
        except (*AWAY, *COLLISION):
            raise
        except (DatabaseError, ValueError, KeyError) as error:
            log.warning("journal_batch_refused", entries=len(entries), error=type(error).__name__)
            await self._one_by_one(entries)

    async def _one_by_one(self, entries: Sequence[Entry]) -> None:
        """One bad entry must not hold the others back for ever; it is kept for a person."""
        for entry in entries:
            try:
                await self._apply([entry])
            except (*AWAY, *COLLISION):
                raise
            except (DatabaseError, ValueError, KeyError) as error:
                log.exception("journal_entry_rejected", error=type(error).__name__)
                await asyncio.to_thread(self._journal.reject, _session_of(entry), entry)

    async def _apply(self, entries: Sequence[Entry]) -> None:
        writes = [_write_of(entry) for entry in entries]

        async def commit() -> None:
            async with self._queues.transaction() as tx:
                await tx.apply(writes)

        async with asyncio.timeout(_COMMIT_S):
            await retry_collisions(commit)

    async def _by_number(self, entries: Sequence[Entry]) -> list[Entry]:
        """Chats and writers known by a `@lid` alone get their number where the store knows it by now."""
        lids = sorted({lid for entry in entries for lid in only_lids(entry)})
        if not lids:
            return list(entries)
        numbers = await self._store.numbers_of(lids)
        return [numbered(entry, numbers) if only_lids(entry) else entry for entry in entries]

    async def _opened(self, entries: list[Entry]) -> list[Entry]:
        """Votes in polls as the queue takes them: which options were chosen, as far as a secret opens them."""
        polls = [_vote(entry)["poll"] for entry in entries if _vote(entry)]
        if not polls:
            return entries
        secrets = await self._store.poll_secrets(polls)
        return [
            _told(entry, open_vote(vote, secrets.get(vote["poll"], ()))) if (vote := _vote(entry)) else entry
            for entry in entries
        ]


def _vote(entry: Entry) -> dict[str, Any]:
    data = entry.get("data", {})
    vote: dict[str, Any] = data.get("content", {}).get("vote", {}) if data.get("type") == "poll_vote" else {}
    return vote


def _told(entry: Entry, chosen: list[str] | None) -> Entry:
    data = entry["data"]
    content = {"message_id": data["content"]["message_id"], "option_hashes": chosen}
    return {**entry, "data": {**data, "content": content}}


def _session_of(entry: Entry) -> ConnectionId:
    session: ConnectionId = entry.get("sessionId") or entry["data"]["sessionId"]
    return session


def _write_of(entry: Entry) -> Write:
    if "queue" in entry:
        return EnqueueJob(job=from_data(QueueName(entry["queue"]), entry["data"]))
    session = _session_of(entry)
    return RecordEvent(
        connection_id=session, type=entry["event"], payload=shown(session, entry["payload"]), severity="warn"
    )
