"""A child whose library holds too many connections to Postgres makes room for a fresh one."""

import asyncio
from collections.abc import Iterator

import pytest

from session_host import store_watch
from shared.domain.errors import Unavailable


class Counted:
    """A store that holds so many connections, look by look."""

    def __init__(self, *counts: int | None) -> None:
        self._counts: Iterator[int | None] = iter(counts)
        self.is_exhausted = asyncio.Event()

    async def connections(self) -> int:
        try:
            count = next(self._counts)
        except StopIteration:
            self.is_exhausted.set()
            return 0
        if count is None:
            raise Unavailable("Postgres is away")
        return count


@pytest.mark.parametrize(
    ("counts", "ends"), [((5, 11, 11), True), ((11, None, 11), True), ((11, 10, 11, 10), False), ((10, 10), False)]
)
async def test_twice_too_many_in_a_row_ends_the_process_and_a_burst_does_not(
    counts: tuple[int | None, ...], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_watch, "COUNT_S", 0.0)
    store, stopping = Counted(*counts), asyncio.Event()

    watch = asyncio.ensure_future(store_watch.watch(store, bound=10, stopping=stopping))
    exhausted = asyncio.ensure_future(store.is_exhausted.wait())
    await asyncio.wait({watch, exhausted}, timeout=10, return_when=asyncio.FIRST_COMPLETED)

    assert stopping.is_set() == ends
    watch.cancel()
    exhausted.cancel()


async def test_without_a_bound_nothing_is_counted() -> None:
    stopping = asyncio.Event()

    await store_watch.watch(Counted(), bound=0, stopping=stopping)

    assert not stopping.is_set()
