"""A child whose library holds too much that it never gives back makes room for a fresh one."""

import asyncio
import resource
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


async def test_a_process_that_has_started_too_many_clients_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "COUNT_S", 0.0)
    stopping, started = asyncio.Event(), iter(range(9, 12))

    async with asyncio.timeout(10):
        await store_watch.watch_starts(lambda: next(started), most=10, stopping=stopping)

    assert stopping.is_set()
    assert list(started) == []


def test_so_many_clients_may_start_as_there_are_files_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for files in (1024, 1_000_000, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        found.append(store_watch.most_starts())

    assert found == [512, 2000, 2000]
