"""`./zh up`: the embedded servers, then every part side by side, until a signal or a part that cannot start."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from local import part
from local.data_dir import replace_file
from local.embedded.serving import EmbeddedServer
from local.environment import inherited
from local.interruption import stop_signals
from local.part import Part
from local.run_dir import RunDir
from local.supervisor import Supervisor
from local.terminal import Terminal
from local.up_plan import Plan, UpOptions, planned

# After every part of ours, and the database last of all.
_SERVER_STOP_RANKS = {"valkey": 8, "postgres": 9}


def up(options: UpOptions) -> int:
    """Run ZapHub until SIGINT or SIGTERM, and return the exit code: 0 then, 1 when a part could not start.

    Raises Misconfigured when the settings, the data folder or another `up` on it stand in the way.
    """
    began = time.monotonic()
    terminal = Terminal()
    stop_on = stop_signals()
    for number in stop_on:
        # Until the loop runs: an interrupted initdb leaves nothing that the next start would trust.
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with planned(options) as plan:
            _wait_for_children_without_threads()
            return asyncio.run(_run(plan, terminal, stop_on, began=began))
    finally:
        # Nothing is left to stop, and a late signal must not change the exit code.
        for number in stop_on:
            signal.signal(number, signal.SIG_IGN)


def _wait_for_children_without_threads() -> None:
    """Keep this process single-threaded, as Python 3.12 and later do by themselves.

    When a process with several threads is killed, its children pass from thread to thread and get their death signal
    once for each. Taskiq's manager does not survive two at once: its signal handler locks itself out, for ever.
    """
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


async def _run(plan: Plan, terminal: Terminal, stop_on: Sequence[signal.Signals], *, began: float) -> int:
    stop, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_on:
        # The first asks, the second insists.
        loop.add_signal_handler(number, lambda: at_once.set() if stop.is_set() else stop.set())

    async with asyncio.TaskGroup() as group:
        run_dir = RunDir(plan.data_dir.run)
        supervisor = Supervisor(group, run_dir=run_dir, logs=plan.data_dir.logs, say=terminal.say)
        # Not tasks of the group: when starting fails the parts are still to be stopped in order.
        asked = asyncio.ensure_future(stop.wait())
        starting = asyncio.ensure_future(_start(plan, supervisor))
        # Any: they end in different types, and only their end matters here.
        ends: list[asyncio.Future[Any]] = [asked, starting, supervisor.failure]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and starting.exception() is None:
                supervisor.report_to(_teller(plan, partial(_greet, plan, terminal, seconds=time.monotonic() - began)))
                ends.remove(starting)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also when the group ends by an error of ours: the parts stop in order whatever happens.
            terminal.say("zaphub", "stopping")
            for waiting in (asked, starting):
                waiting.cancel()
            _, trouble = await asyncio.gather(asked, starting, return_exceptions=True)
            await supervisor.stop(at_once=at_once)
            plan.data_dir.ready_file.unlink(missing_ok=True)
    if supervisor.failure.done():
        raise supervisor.failure.result()
    if isinstance(trouble, Exception):
        raise trouble
    terminal.say("zaphub", "stopped")
    return 0


async def _start(plan: Plan, supervisor: Supervisor) -> None:
    for name, server in plan.servers.items():
        supervisor.start(_server(name, server))
    from shared.db.migrate import migrate  # noqa: PLC0415 - asyncpg takes as long to load as they take to start

    await supervisor.until_ready()
    await migrate(plan.environment["ZAPHUB_DATABASE_URL"])
    # A database with a host name was looked up in a thread: see _wait_for_children_without_threads.
    await asyncio.get_running_loop().shutdown_default_executor()
    for each in _parts(plan):
        supervisor.start(each)
    await supervisor.until_ready()


def _server(name: str, server: EmbeddedServer) -> Part:
    return Part(
        name=name,
        command=server.command(),
        environment=inherited(),
        stop_rank=_SERVER_STOP_RANKS[name],
        is_ready=server.is_ready,
        stop_signal=server.stop_signal,
        stop_s=20,
        is_quiet=True,
    )


def _parts(plan: Plan) -> Iterator[Part]:
    def environment(name: str) -> dict[str, str]:
        return {**plan.environment, "ZAPHUB_PART": name}

    # The slowest first: they are what a start waits for.
    after: tuple[str, ...] = ()
    if plan.fake_whatsapp_port is not None:
        data = str(plan.data_dir.fake_whatsapp)
        yield part.fake_whatsapp(environment("fake-whatsapp"), port=plan.fake_whatsapp_port, data=data)
        after = ("fake-whatsapp",)
    if plan.sqs_port is not None:
        yield part.sqs(environment("sqs"), port=plan.sqs_port)
        after = (*after, "sqs")
    with_fake = "ZAPHUB_FAKE_WHATSAPP_URL" in plan.environment
    yield part.session_host(environment("session-host"), with_fake=with_fake, after=after)
    if plan.options.with_lambda:
        yield part.lambda_api(environment("api"), host=plan.host, port=plan.port)
        yield part.lambda_functions(environment("worker-1"), after=after)
        return
    yield part.api(environment("api"), host=plan.host, port=plan.port)
    for number in range(1, plan.options.workers + 1):
        yield part.worker(environment(f"worker-{number}"), number=number, grace_s=plan.settings.shutdown_grace_s)
    yield part.scheduler(environment("scheduler"))


def _teller(plan: Plan, greet: Callable[[], None]) -> Callable[[dict[str, int]], None]:
    """What writes the pids down; it greets after the first time, as who reads that starts the commands that join."""
    greetings = [greet]

    def tell(pids: dict[str, int]) -> None:
        _publish(plan, pids)
        while greetings:
            greetings.pop()()

    return tell


def _publish(plan: Plan, pids: dict[str, int]) -> None:
    environment = plan.environment
    said = {
        "api_url": plan.api_url,
        "api_key": environment["ZAPHUB_ADMIN_KEY"],
        "dashboard_url": f"{plan.api_url}/dashboard",
        "database_url": environment["ZAPHUB_DATABASE_URL"],
        "redis_url": environment.get("ZAPHUB_REDIS_URL"),
        "fake_whatsapp_url": environment.get("ZAPHUB_FAKE_WHATSAPP_URL"),
        "pids": pids,
    }
    # What a part that joins needs more.
    bells = {
        "transport": environment["ZAPHUB_TRANSPORT"],
        "sqs_queue_urls": json.loads(environment["ZAPHUB_SQS_QUEUE_URLS"]),
    }
    replace_file(plan.data_dir.ready_file, json.dumps(said | bells, indent=2))
    if plan.options.ready_file is not None:
        replace_file(plan.options.ready_file, json.dumps(said, indent=2))


def _greet(plan: Plan, terminal: Terminal, *, seconds: float) -> None:
    terminal.say("zaphub", f"ready in {seconds:.1f} s")
    terminal.say("zaphub", f"API        {plan.api_url}  (documentation: {plan.api_url}/docs)")
    terminal.say("zaphub", f"admin key  in {plan.data_dir.secrets_file}")
    if "postgres" in plan.servers:
        terminal.say("zaphub", f"data       {plan.data_dir.root}  (logs/ has one file a part)")
    terminal.say("zaphub", "Ctrl-C stops everything")
