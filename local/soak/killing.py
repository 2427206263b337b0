"""Kills children of the session host with SIGKILL, and measures from the wire when their sessions are back."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from random import Random
from typing import Final

from local.demo.errors import DemoStopped
from local.soak.stand import Stand

_CHILD: Final = "session-host-child-"
_LOOK_S: Final = 0.1
_BACK_S: Final = 120


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: `seconds` from it until each session that lost its socket had logged in again, the last one's last.

    `at_s`: when, by the monotonic clock.
    """

    part: str
    at_s: float
    seconds: list[float]


async def kill_a_child(stand: Stand, chance: Random) -> Kill:
    """Kill one child and wait until every session is connected again. Raises DemoStopped when that takes too long."""
    before = await stand.sockets()
    pids = stand.pids()
    part = chance.choice(sorted(name for name in pids if name.startswith(_CHILD)))
    began = time.monotonic()
    os.kill(pids[part], signal.SIGKILL)
    back: dict[str, float] = {}
    while True:
        now, pid = await stand.sockets(), stand.pids().get(part)
        for phone, (is_connected, connects) in now.items():
            if is_connected and connects > before[phone][1]:
                back.setdefault(phone, time.monotonic() - began)
        is_replaced = pid is not None and pid != pids[part]
        if is_replaced and all(is_connected for is_connected, _ in now.values()):
            return Kill(part, began, sorted(back.values()))
        if time.monotonic() - began > _BACK_S:
            raise DemoStopped(f"Not every session was connected again {_BACK_S} s after {part} was killed.")
        await asyncio.sleep(_LOOK_S)
