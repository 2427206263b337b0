"""Keeps the parts of a running ZapHub alive: starts, watches, restarts and stops them."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from local.child_process import child_command
from local.part import Part
from local.part_log import PartLog
from local.run_dir import RunDir, is_alive
from shared.domain.errors import Permanent

DEATHS_BEFORE_READY = 5
# 0.2 s, 0.4 s, 0.8 s, then 1.6 s … up to 10 s; begins anew once the part was ready for 30 s.
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 10.0
_STEADY_S = 30.0
_POLL_STARTING_S = 0.03
_POLL_READY_S = 0.2
# What a dead part's own children may take to let go of its output.
_LAST_OUTPUT_S = 1.0


class PartFailed(Permanent):
    """A part died five times before it ever got ready; the text carries the end of its log."""


@dataclass(slots=True)
class _Running:
    """A part and what happens to it."""

    part: Part
    log: PartLog
    # Held while a process is being made, so that a stop never misses one.
    spawning: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    was_ever_ready: bool = False
    deaths_before_ready: int = 0
    delay_s: float = _FIRST_DELAY_S
    ready_since: float | None = None


class Supervisor:
    """Runs parts in a task group of the caller's, who must leave that group through `stop`.

    All methods are for the thread of that group's loop, the main one. `failure` becomes a PartFailed when a part cannot
    start; nothing is stopped by that: the caller decides.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        run_dir: RunDir,
        logs: Path,
        say: Callable[[str, str], None],
    ) -> None:
        """Watch from now on; `say` gets a name and a line for the terminal."""
        self.failure: asyncio.Future[PartFailed] = asyncio.get_running_loop().create_future()
        self._group = group
        self._run_dir = run_dir
        self._logs = logs
        self._say = say
        self._on_pids: Callable[[dict[str, int]], None] | None = None
        self._running: dict[str, _Running] = {}
        self._reported: dict[str, int] = {}
        self._cannot_report = False
        self._is_stopping = False
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watching = group.create_task(self._watch())

    def start(self, part: Part) -> None:
        """Start a part as soon as those it comes after are ready, and keep it running."""
        show = None if part.is_quiet else lambda line: self._say(part.name, line)
        running = _Running(part=part, log=PartLog(self._logs / f"{part.name}.log", show=show))
        self._running[part.name] = running
        running.task = self._group.create_task(self._keep_running(running))

    async def until_ready(self) -> None:
        """Return when every part that was started is ready."""
        for running in list(self._running.values()):
            await running.ready.wait()

    def report_to(self, on_pids: Callable[[dict[str, int]], None]) -> None:
        """Call `on_pids` with name → pid from now on, whenever all are ready and a pid differs from the last call.

        One that raises OSError, as on a full disk, is called again until it does not.
        """
        self._on_pids = on_pids

    async def stop(self, *, at_once: asyncio.Event) -> None:
        """Stop every part in order, the lowest `stop_rank` first, and leave no process behind.

        A part that outlasts its `stop_s` is killed; `at_once` makes every one outlast it.
        """
        self._is_stopping = True
        self._watching.cancel()

        def rank(running: _Running) -> int:
            return running.part.stop_rank

        for _, same_rank in groupby(sorted(self._running.values(), key=rank), key=rank):
            await asyncio.gather(*(self._stop(running, at_once=at_once) for running in same_rank))

    async def _keep_running(self, running: _Running) -> None:
        part = running.part
        try:
            for name in part.after:
                await self._running[name].ready.wait()
            while (status := await self._run_once(running)) is not None:
                if self._is_stopping or self._cannot_start(running, status):
                    return
                self._say("zaphub", f"{part.name} {_ending(status)}; starting it again in {running.delay_s:g} s")
                await asyncio.sleep(running.delay_s)
                running.delay_s = min(running.delay_s * 2, _LONGEST_DELAY_S)
        finally:
            running.log.close()

    async def _run_once(self, running: _Running) -> int | None:
        """Run the part to its end and return its exit status, or None when it is too late to start it."""
        part = running.part
        async with running.spawning:
            if self._is_stopping:
                return None
            # Whoever dies with its parent dies with the parent's *thread*: this runs on the loop's, the main one.
            process = running.process = await asyncio.create_subprocess_exec(
                *child_command(part.command, death_signal=part.stop_signal),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(part.environment),
                # A Ctrl-C at the terminal is for the supervisor alone, which then stops the parts in order.
                process_group=0,
            )
        reading = self._group.create_task(_copy(process.stdout, running.log))
        status = await process.wait()
        # What it started may live on, as a worker's child does when its manager is killed.
        _kill_group(process.pid)
        await asyncio.wait([reading], timeout=_LAST_OUTPUT_S)
        reading.cancel()
        self._note_end(running)
        return status

    def _note_end(self, running: _Running) -> None:
        running.process = None
        running.ready.clear()
        self._run_dir.forget(running.part.name)
        if running.ready_since is not None and time.monotonic() - running.ready_since > _STEADY_S:
            running.delay_s = _FIRST_DELAY_S
        running.ready_since = None

    def _cannot_start(self, running: _Running, status: int) -> bool:
        if running.was_ever_ready:
            return False
        running.deaths_before_ready += 1
        if running.deaths_before_ready < DEATHS_BEFORE_READY:
            return False
        tail = "\n".join(f"    {line}" for line in running.log.last_lines)
        reason = (
            f"{running.part.name} {_ending(status)}, the {DEATHS_BEFORE_READY}th time before it ever got ready. "
            f"The end of {running.log.path}:\n{tail}"
        )
        if not self.failure.done():
            self.failure.set_result(PartFailed(reason))
        return True

    async def _watch(self) -> None:
        while True:
            announced = self._run_dir.pids()
            for running in self._running.values():
                self._look_at(running, announced)
            all_ready = bool(self._running) and all(running.ready.is_set() for running in self._running.values())
            if all_ready and self._on_pids is not None:
                self._report(announced, self._on_pids)
            await asyncio.sleep(_POLL_READY_S if all_ready else _POLL_STARTING_S)

    def _look_at(self, running: _Running, announced: dict[str, int]) -> None:
        process = running.process
        if process is None or process.returncode is not None:
            return
        if running.part.is_ready is not None:
            is_ready = running.ready.is_set() or running.part.is_ready(process.pid)
        else:
            pid = announced.get(running.part.name)
            if pid is not None and not is_alive(pid):
                # The process that did the work is gone, and the one that started it would notice later, or never.
                _kill_group(process.pid)
            is_ready = pid is not None and is_alive(pid)
        if is_ready and not running.ready.is_set():
            running.ready.set()
            running.was_ever_ready = True
            running.ready_since = time.monotonic()
        elif not is_ready:
            running.ready.clear()

    def _report(self, announced: dict[str, int], on_pids: Callable[[dict[str, int]], None]) -> None:
        pids = {"supervisor": os.getpid(), **{name: pid for name, pid in announced.items() if is_alive(pid)}}
        for name, running in self._running.items():
            if running.part.is_ready is not None and running.process is not None:
                pids[name] = running.process.pid
            elif name not in pids:
                return  # it died a moment ago: what `process` has is its starter
        if pids == self._reported:
            return
        try:
            on_pids(dict(pids))
        except OSError as error:
            if not self._cannot_report:
                self._say("zaphub", f"the new pids cannot be written down yet: {error}")
            self._cannot_report = True
        else:
            self._reported, self._cannot_report = pids, False

    async def _stop(self, running: _Running, *, at_once: asyncio.Event) -> None:
        async with running.spawning:
            process, part = running.process, running.part
        if process is None or process.returncode is not None:
            # Waiting for another part, or for its next start.
            if process is None and running.task is not None:
                running.task.cancel()
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        ended = asyncio.ensure_future(process.wait())
        hurry = asyncio.ensure_future(at_once.wait())
        await asyncio.wait([ended, hurry], timeout=part.stop_s, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            why = "at once" if hurry.done() else f"as it did not stop within {part.stop_s:g} s"
            self._say("zaphub", f"killing {part.name} {why}")
        hurry.cancel()
        _kill_group(process.pid)
        await ended


async def _copy(source: asyncio.StreamReader | None, log: PartLog) -> None:
    if source is None:
        return
    while piece := await source.read(65536):
        log.feed(piece)


def _kill_group(leader: int) -> None:
    # The leader's pid stays taken for as long as one process of its group lives, so this hits nobody else.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with {status}"
