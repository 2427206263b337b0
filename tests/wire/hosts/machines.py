"""Machines that die, hang and go on, and what the wire shows of who holds a device."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from shared.db.hosts import Owner
from shared.domain.ids import ConnectionId
from tests.wire.session_host.stage import HostProcess, Stage, until

Start = Callable[..., HostProcess]
_numbers = count(1)


def new_phone() -> str:
    return f"55119666{next(_numbers):05d}"


def processes_of(host: HostProcess) -> list[int]:
    """The supervisor and its children, the supervisor first."""
    leader = host.process.pid
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text(encoding="utf-8")
    return [leader, *map(int, children.split())]


def cut_power(host: HostProcess) -> None:
    """Every process of the machine is gone in the same moment: nobody closes a socket or gives a lease back."""
    pids = processes_of(host)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    host.process.wait(10)


@contextmanager
def frozen(host: HostProcess) -> Iterator[None]:
    """The machine hangs: its connections stay, and all goes on afterwards."""
    pids = processes_of(host)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def until_ended(pid: int) -> None:
    async def is_gone() -> bool:
        return not _runs(pid)

    await until(is_gone, within_s=20)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False


def seen_by_whatsapp(stage: Stage, phone: str) -> dict[str, Any]:
    """How the server sees the device: whether it is connected, and how often it has logged in."""
    [found] = [one for one in stage.fake.sessions() if one["phone"] == phone]
    return found


async def until_moved(stage: Stage, before: dict[ConnectionId, Owner]) -> dict[ConnectionId, Owner]:
    """Each session is connected with another host than before."""
    after = {}
    for session, former in before.items():
        await stage.until_status(session, "connected", above_epoch=former.epoch)
        after[session] = await stage.owner(session)
        assert after[session].host_id != former.host_id
    return after


async def held_by(stage: Stage) -> dict[str, int]:
    """How many connected sessions each host holds."""
    rows = await stage.pool.fetch(
        "SELECT host_id, count(*)::int AS held FROM connections"
        " WHERE host_id IS NOT NULL AND status = 'connected' GROUP BY host_id"
    )
    return {row["host_id"]: row["held"] for row in rows}
