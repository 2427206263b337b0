"""A trace that the store refused: the frame waits for its mark, and does not leave without."""

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from session_host.lost_traces import LostTraces
from shared.db.pool import Pool

TRY = (uuid4(), 3)


class Desk:
    def in_flight(self) -> Sequence[tuple[UUID, int]]:
        return [TRY]


class Marks:
    """A pool that marks, or cannot."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.marked: list[tuple[Any, ...]] = []
        self._trouble = trouble

    async def execute(self, _sql: str, *values: Any) -> None:
        if self._trouble is not None:
            raise self._trouble
        self.marked.append(values)


async def heard(marks: Marks, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the library's thread comes back to: the signals that this process has sent itself."""
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: signals.append(number))
    await asyncio.to_thread(LostTraces(cast("Pool", marks), Desk()).heard)
    return signals


async def test_the_frame_waits_until_its_try_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks()

    assert await heard(marks, monkeypatch) == []
    assert marks.marked == [([TRY[0]], [TRY[1]])]


async def test_the_process_ends_before_a_frame_that_cannot_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await heard(Marks(OSError("Postgres is away")), monkeypatch) == [signal.SIGKILL]
