"""The finisher: commits what ended, all that gathered since the last commit in one transaction, until told to end."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from shared.db.pool import AWAY, COLLISION
from shared.queues.finishing import finish_all, finish_each
from shared.queues.held import Held
from shared.queues.job_log import log_ended
from shared.queues.lane import Lane
from shared.queues.ledger import Finished
from shared.queues.outage import Outage
from shared.queues.registry import Works
from shared.queues.runner import Ending
from shared.queues.running import report_progress, reports_of
from shared.queues.runtime import Queues
from shared.queues.together import REST_AT_MOST_S

_AT_MOST: Final = 500
# Of a commit's answer that Postgres is away, so many in a row make us look at the batch itself.
_DOUBTS: Final = 3


class Finisher:
    """One drain's. `on_finished` hears what each commit came to, and rings for what it made claimable."""

    def __init__(
        self, queues: Queues, works: Works, held: Held, *, outage: Outage, on_finished: Callable[[Finished], None]
    ) -> None:
        self._queues = queues
        self._works = works
        self._held = held
        self._outage = outage
        self._on_finished = on_finished
        self._ended: list[Ending] = []
        self._flush = asyncio.Event()
        self._is_last = False

    def add(self, endings: Sequence[Ending]) -> None:
        """Have these committed soon."""
        self._ended += endings
        self._flush.set()

    def is_idle(self) -> bool:
        """Whether everything is committed."""
        return not self._ended

    def end(self) -> None:
        """Let `run` return when what there is is committed."""
        self._is_last = True
        self._flush.set()

    async def run(self, lane: Lane) -> None:
        """Commit until `end`, however long Postgres is away in between."""
        self._is_last = False
        doubts = 0
        while True:
            self._flush.clear()
            if not self._ended:
                if self._is_last:
                    return
                await self._flush.wait()
                continue
            batch = self._ended[:_AT_MOST]
            began = time.monotonic()
            try:
                connection = await lane.open()
                # A job that goes on later may be looked at meanwhile.
                await report_progress(connection, reports_of(end.job for end in batch))
                if doubts < _DOUBTS:
                    finished = await finish_all(self._queues, connection, self._works, batch)
                else:
                    finished = await finish_each(self._queues, connection, self._works, batch, doubt_away=True)
            except (*AWAY, *COLLISION) as error:
                await lane.drop()
                await asyncio.sleep(self._outage.began(error))
                # Postgres answers others, so it is this batch that breaks the connection or runs into its timeout.
                doubts = doubts + 1 if await _answers(lane) else 0
                continue
            self._outage.ended()
            doubts = 0
            del self._ended[: len(batch)]
            await self._settle(batch, finished)
            # Most of what a commit costs is the same for one as for ten: on a busy queue the next ones come together.
            await asyncio.sleep(min(time.monotonic() - began, REST_AT_MOST_S))

    async def _settle(self, batch: Sequence[Ending], finished: Finished) -> None:
        self._held.drop(end.job for end in batch)
        # Of two claims of one job that end in one batch the earlier was lost.
        newest = {end.job.pk: end.job.fence for end in sorted(batch, key=lambda end: end.job.fence)}
        log_ended(
            batch,
            accepted={newest[pk] for pk in finished.accepted},
            dead={newest[pk] for pk in finished.dead},
        )
        self._on_finished(finished)
        if finished.ready:
            await self._queues.ring(finished.ready)


async def _answers(lane: Lane) -> bool:
    try:
        await (await lane.open()).execute("SELECT 1")
    except AWAY:
        return False
    return True
