"""The acceptor over a commit that the test scripts: who shares a transaction, who is waited for, who pays for whom."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from shared.db.idempotency import KeyedRequest
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.message import MessageType
from shared.queues.acceptor import Acceptor
from shared.queues.send_requests import Answer, Ask, Held, SendRequest, Served

_SHOP, _BANK = uuid4(), uuid4()


def ask(name: str, *, connection: UUID = _SHOP, messages: int = 1, key: str | None = None) -> Ask:
    request = SendRequest(to="5511987654321", type=MessageType.TEXT, payload={"text": name})
    keyed = key and KeyedRequest(tenant_id=DEFAULT_TENANT, scope="send", key=key, body_hash=b"")
    return Ask(connection_id=connection, tenant_id=DEFAULT_TENANT, requests=[request] * messages, keyed=keyed or None)


def name_of(one: Ask) -> str:
    return str(one.requests[0].payload["text"])


class Desk:
    """Answers each ask with nothing, as in a commit; keeps who came together and whether they waited.

    `gates` hold a batch up that has an ask of that name, `held` are answered so many times that they are, `bad` break
    their batch.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], bool]] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.held: dict[str, int] = {}
        self.bad: dict[str, Exception] = {}
        self.answers: dict[str, Answer] = {}

    async def commit(self, asks: Sequence[Ask], *, waits: bool) -> list[Answer]:
        names = [name_of(one) for one in asks]
        self.batches.append((names, waits))
        for name in names:
            if name in self.gates:
                await self.gates[name].wait()
        for name in names:
            if name in self.bad:
                raise self.bad[name]
        return [self._answer(name, waits=waits) for name in names]

    def _answer(self, name: str, *, waits: bool) -> Answer:
        if not waits and self.held.get(name, 0) > 0:
            self.held[name] -= 1
            return Held.CONNECTION
        return self.answers.get(name, [])

    async def has(self, name: str) -> None:
        """Return once a batch with this ask was begun."""
        async with asyncio.timeout(10):
            while not any(name in names for names, _ in self.batches):  # noqa: ASYNC110 - the batch is what is waited for
                await asyncio.sleep(0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def acceptor(desk: Desk) -> Acceptor:
    return Acceptor(desk.commit, patience_s=60, lines_at_once=2)


async def _all(acceptor: Acceptor, *asks: Ask) -> list[Served | BaseException]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*map(acceptor.accept, asks), return_exceptions=True)


async def test_asks_of_one_moment_share_a_transaction_and_what_comes_meanwhile_the_next(
    acceptor: Acceptor, desk: Desk
) -> None:
    desk.gates["a"] = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(acceptor.accept(ask(name)))
        await desk.has("a")
        for name in ("c", "d", "e"):
            group.create_task(acceptor.accept(ask(name)))
        await asyncio.sleep(0)
        desk.gates["a"].set()

    assert desk.batches == [(["a", "b"], False), (["c", "d", "e"], False)]


async def test_a_bad_ask_fails_alone(acceptor: Acceptor, desk: Desk) -> None:
    desk.bad["bad"] = RuntimeError("bad")

    answers = await _all(acceptor, ask("a"), ask("bad"), ask("b"))

    assert [type(answer) for answer in answers] == [list, RuntimeError, list]
    assert [names for names, _ in desk.batches] == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]


class _EncodingError(OSError, ValueError):
    """As asyncpg's: of the interface, which is how it tells of a lost server, and of a value."""


async def test_a_value_that_cannot_be_encoded_is_no_outage(acceptor: Acceptor, desk: Desk) -> None:
    desk.bad["bad"] = _EncodingError()

    assert [type(answer) for answer in await _all(acceptor, ask("a"), ask("bad"))] == [list, _EncodingError]


async def test_without_a_server_nobody_is_tried_again(acceptor: Acceptor, desk: Desk) -> None:
    desk.bad["a"] = ConnectionResetError()

    answers = await _all(acceptor, ask("a"), ask("b"))

    assert [type(answer) for answer in answers] == [ConnectionResetError, ConnectionResetError]
    assert len(desk.batches) == 1


async def test_what_is_no_fault_is_raised_where_it_belongs(acceptor: Acceptor, desk: Desk) -> None:
    desk.answers = {"gone": NotFound("gone"), "used": Conflict("used")}

    answers = await _all(acceptor, ask("gone"), ask("a"), ask("used"))

    assert [type(answer) for answer in answers] == [NotFound, list, Conflict]
    assert len(desk.batches) == 1


async def test_what_is_held_comes_along_with_others_and_then_waits_beside_them(acceptor: Acceptor, desk: Desk) -> None:
    desk.held["held"] = 99
    desk.gates["1"] = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(acceptor.accept(ask("held")))
        group.create_task(acceptor.accept(ask("1", connection=_BANK)))
        await desk.has("1")
        group.create_task(acceptor.accept(ask("2", connection=_BANK)))
        await asyncio.sleep(0)
        desk.gates["1"].set()

    assert desk.batches == [(["held", "1"], False), (["held", "2"], False), (["held"], True)]


async def test_what_is_held_alone_waits_at_once(acceptor: Acceptor, desk: Desk) -> None:
    desk.held["held"] = 99

    await _all(acceptor, ask("held"))

    assert desk.batches == [(["held"], False), (["held"], True)]


async def test_a_connection_that_is_waited_for_stops_no_other_and_keeps_its_order(
    acceptor: Acceptor, desk: Desk
) -> None:
    desk.held["held"] = 1
    desk.gates["held"] = asyncio.Event()
    desk.gates["held"].set()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(acceptor.accept(ask("held")))
        while len(desk.batches) < 1:  # noqa: ASYNC110 - the batch is what is waited for
            await asyncio.sleep(0)
        desk.gates["held"].clear()
        while desk.batches[-1] != (["held"], True):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        behind = [group.create_task(acceptor.accept(ask(name))) for name in ("x", "y")]
        await acceptor.accept(ask("other", connection=_BANK))
        assert not any(task.done() for task in behind)
        desk.gates["held"].set()

    assert desk.batches[-2:] == [(["other"], False), (["x", "y"], True)]


async def test_a_large_ask_keeps_no_small_one_waiting(acceptor: Acceptor, desk: Desk) -> None:
    desk.gates["large"] = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        large = group.create_task(acceptor.accept(ask("large", messages=1000)))
        await desk.has("large")
        for number in range(3):
            await acceptor.accept(ask(f"small-{number}", connection=_BANK))
        assert not large.done()
        desk.gates["large"].set()

    assert desk.batches[0] == (["large"], True)


async def test_a_transaction_is_bounded(acceptor: Acceptor, desk: Desk) -> None:
    await _all(acceptor, *(ask(str(number), messages=90) for number in range(5)))

    assert [names for names, _ in desk.batches] == [["0", "1"], ["2", "3"], ["4"]]


async def test_a_key_is_in_a_transaction_once(acceptor: Acceptor, desk: Desk) -> None:
    await _all(acceptor, ask("a", key="k"), ask("again", key="k"), ask("b", key="l"), ask("c"))

    assert [names for names, _ in desk.batches] == [["a", "b", "c"], ["again"]]


async def test_who_leaves_before_the_begin_is_not_served_and_who_leaves_later_stops_nobody(
    acceptor: Acceptor, desk: Desk
) -> None:
    desk.gates["a"] = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        gone_late = group.create_task(acceptor.accept(ask("a")))
        served = group.create_task(acceptor.accept(ask("b")))
        await desk.has("a")
        gone_early = group.create_task(acceptor.accept(ask("c")))
        last = group.create_task(acceptor.accept(ask("d")))
        await asyncio.sleep(0)
        gone_late.cancel()
        gone_early.cancel()
        await asyncio.sleep(0)
        desk.gates["a"].set()

    assert [names for names, _ in desk.batches] == [["a", "b"], ["d"]]
    assert (served.result(), last.result()) == ([], [])


async def test_who_waited_too_long_to_begin_is_told_so_and_nothing_is_done(desk: Desk) -> None:
    acceptor = Acceptor(desk.commit, patience_s=0, lines_at_once=1)
    desk.gates["late"] = asyncio.Event()

    [answer] = await _all(acceptor, ask("late"))

    assert isinstance(answer, TimeoutError)
    assert desk.batches == []


async def test_closing_waits_for_everybody(acceptor: Acceptor, desk: Desk) -> None:
    desk.gates = {"large": asyncio.Event(), "small": asyncio.Event()}
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        large = group.create_task(acceptor.accept(ask("large", messages=200)))
        small = group.create_task(acceptor.accept(ask("small", connection=_BANK)))
        await desk.has("small")
        closing = group.create_task(acceptor.close())
        desk.gates["small"].set()
        await small
        assert not closing.done()
        desk.gates["large"].set()
        await closing
        assert large.done()
