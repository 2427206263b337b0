"""Any sequence of calls, time included, leaves exact counters, strict order and nothing stuck."""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shared.domain.jobs import Dedupe, Job, QueueName
from shared.queues.ledger import FinishKind, cancel, make_due, pause_group, release, resume_group, retry, sweep

if TYPE_CHECKING:
    from shared.db.pool import Connection
    from tests.integration.ledger.conftest import Desk

QUEUE = QueueName.MESSAGE_RECEIVE
STEPS = 250


class Walk:
    """Takes random steps and remembers what it holds."""

    def __init__(self, desk: "Desk", rng: random.Random) -> None:
        self.desk = desk
        self.rng = rng
        self.held: list[Job] = []
        self.groups = [None, "a", "b", "c"]

    async def add(self) -> None:
        group = self.rng.choice(self.groups)
        lives_s = self.rng.choice([None, None, 30])
        await self.desk.add(
            *[f"j{self.rng.randint(0, 60)}" for _ in range(self.rng.randint(1, 6))],
            group=group,
            order_key=self.rng.choice([None, "k", "l"]),
            urgency=self.rng.randint(0, 9),
            in_s=self.rng.choice([None, None, 10]),
            expires_at=None if lives_s is None else datetime.now(UTC) + timedelta(seconds=lives_s),
            dedupe=self.rng.choice(list(Dedupe)),
            max_attempts=2,
        )

    async def claim(self) -> None:
        self.held += await self.desk.claim(self.rng.randint(1, 6))

    async def finish(self) -> None:
        for kind in FinishKind:
            some = [job for job in self.held if self.rng.random() < 0.2]
            await self.desk.end(some, kind, self.rng.choice([0, 5]))
            self.held = [job for job in self.held if job not in some]

    async def give_back(self) -> None:
        await release(self.desk.conn, {job.pk: job.fence for job in self.held})
        self.held = []

    async def elapse(self) -> None:
        await self.desk.elapse(self.rng.choice([2, 6, 20]))
        await sweep(self.desk.conn, limit=self.rng.choice([2, 500]))

    async def meddle(self) -> None:
        pks = [row["pk"] for row in await self.desk.conn.fetch("SELECT pk FROM jobs")]
        some = self.rng.sample(pks, min(3, len(pks)))
        await self.rng.choice([cancel_some, make_due, retry])(self.desk.conn, some)

    async def pause(self) -> None:
        await pause_group(self.desk.conn, QUEUE, "a", self.rng.choice(["connection_offline", "connection_paused"]))

    async def resume(self) -> None:
        for reason in ("connection_offline", "connection_paused"):
            await resume_group(self.desk.conn, QUEUE, "a", reason)

    def step(self) -> Callable[[], Awaitable[None]]:
        steps = [self.add, self.claim, self.finish, self.give_back, self.elapse, self.meddle, self.pause, self.resume]
        return self.rng.choices(steps, [6, 6, 6, 1, 3, 3, 1, 2])[0]


async def cancel_some(conn: "Connection", pks: Sequence[int]) -> None:
    await cancel(conn, pks=pks)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_sequence_of_calls_leaves_the_books_wrong(desk: "Desk", seed: int) -> None:
    walk = Walk(desk, random.Random(seed))

    for _ in range(STEPS):
        await walk.step()()
        await desk.check()

    await walk.resume()
    for _ in range(100):
        await desk.elapse(60)
        await sweep(desk.conn)
        await desk.end(await desk.claim(50))
    assert await desk.conn.fetchval("SELECT count(*) FROM jobs WHERE finished_at IS NULL") == 0
    assert await desk.conn.fetchval("SELECT count(*) FROM jobs") > 100
