"""Keeps the children running: starts each, restarts one that dies, stops all. Never loads the library itself."""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Final

import structlog

from shared import presence
from shared.settings import Settings

# Between a death and the next start: 0.3 s, then 0.6, 1.2, 2.4, 4.8, 5 s; after half a minute's life 0.3 s again.
_FIRST_PAUSE_S: Final = 0.3
_MOST_PAUSE_S: Final = 5.0
_LONG_LIFE_S: Final = 30.0
# A child that dies so often in a row, and never once got ready, cannot start here. Under `./zh up` the first death is
# enough: its supervisor starts the host again, and counts.
_DEATHS: Final = 5
# A child closes its sockets in about five seconds, and ends itself.
_STOP_S: Final = 9.0
_LOOK_S: Final = 0.05

log = structlog.get_logger(__name__)


class Supervisor:
    """`connector` is handed to the children (`package.module:function`); None outside tests and the demo."""

    def __init__(self, settings: Settings, *, connector: str | None) -> None:
        self._settings = settings
        self._connector = connector
        self._stopping = asyncio.Event()
        self._ready: set[int] = set()
        self._failed = False

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; 0 then, 1 when a child cannot start."""
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._stopping.set)
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._settings.host_children + 1):
                group.create_task(self._keep(number))
        return 1 if self._failed else 0

    async def _keep(self, number: int) -> None:
        pause_s, deaths, dead = _FIRST_PAUSE_S, 0, None
        while not self._stopping.is_set():
            began = time.monotonic()
            host = f"{socket.gethostname()}-{os.getpid()}-{number}-{secrets.token_hex(4)}"
            child = await asyncio.create_subprocess_exec(
                *self._command(number, host, dead), stdin=asyncio.subprocess.DEVNULL, env=_child_environment()
            )
            code = await self._live(child, number)
            if self._stopping.is_set():
                return
            # Its leases need not lapse: the process that held them is gone.
            dead = host
            lived_s = time.monotonic() - began
            if code == 0:
                log.info("host_child_recycled", number=number, lived_s=round(lived_s, 1))
                pause_s, deaths = _FIRST_PAUSE_S, 0
                continue
            log.warning("host_child_died", number=number, code=code, why=_why(code), lived_s=round(lived_s, 1))
            deaths = 1 if lived_s >= _LONG_LIFE_S else deaths + 1
            if number not in self._ready and deaths >= (_DEATHS if self._settings.run_dir is None else 1):
                log.error("host_child_cannot_start", number=number, code=code)
                self._failed = True
                self._stopping.set()
                return
            pause_s = _FIRST_PAUSE_S if lived_s >= _LONG_LIFE_S else pause_s
            await self._until_stopping(pause_s)
            pause_s = min(pause_s * 2, _MOST_PAUSE_S)

    async def _live(self, child: asyncio.subprocess.Process, number: int) -> int:
        """Wait for the child's end; at a stop, ask it to end, then insist."""
        ended = asyncio.ensure_future(child.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not ended.done() and not stopping.done():
                is_known = number in self._ready or self._settings.run_dir is None
                await asyncio.wait(
                    {ended, stopping},
                    timeout=None if is_known else _LOOK_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._notice_ready(child.pid, number)
            if not ended.done():
                child.send_signal(signal.SIGTERM)
                await asyncio.wait({ended}, timeout=_STOP_S)
            if not ended.done():
                child.kill()
            return await ended
        finally:
            stopping.cancel()

    def _notice_ready(self, pid: int, number: int) -> None:
        """The whole host is ready when each child has announced itself once."""
        if self._settings.run_dir is None or number in self._ready:
            return
        with suppress(OSError, ValueError):
            said = json.loads((self._settings.run_dir / f"session-host-child-{number}.json").read_text("utf-8"))
            if said["pid"] == pid:
                self._ready.add(number)
                if len(self._ready) == self._settings.host_children:
                    presence.announce(self._settings.run_dir, "session-host")

    async def _until_stopping(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _command(self, number: int, host: str, dead: str | None) -> list[str]:
        command = [sys.executable, "-m", "session_host.child", "--number", str(number), "--parent", str(os.getpid())]
        command += ["--host", host, *(() if dead is None else ("--after", dead))]
        return command if self._connector is None else [*command, "--connector", self._connector]


def _why(code: int) -> str:
    """What a person makes of an exit code."""
    if code == -signal.SIGALRM:
        return "its leases lapsed while it had sockets open"
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _child_environment() -> dict[str, str]:
    """The supervisor's own, and what the Go library reads from where the kernel put it: too late once a child runs.

    Without NEONIZE_BOT_TAG=off every message to a person carries a mark that phones show as "AI".
    """
    return {**os.environ, "NEONIZE_BOT_TAG": "off"}  # noqa: TID251 - handed on, not read
