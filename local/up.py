"""`./zh up`: the embedded servers, then every part side by side, until a signal or a part that cannot start."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from local import part, sqs_address
from local.data_dir import DataDir, replace_file
from local.embedded import postgres, valkey
from local.embedded.serving import EmbeddedServer
from local.environment import for_children, inherited, is_set, local_settings, settings_with
from local.interruption import stop_signals
from local.part import Part
from local.ports import free_port, is_free
from local.run_dir import RunDir
from local.supervisor import Supervisor
from local.terminal import Terminal
from shared.domain.errors import Misconfigured
from shared.settings import Settings

_DEFAULT_PORT = 8000
_LOOPBACK = "127.0.0.1"
# After every part of ours, and the database last of all.
_SERVER_STOP_RANKS = {"valkey": 8, "postgres": 9}
# Stands for the URL that is known only once the embedded server is prepared.
_EMBEDDED_DATABASE = "postgresql://embedded"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asked for; None is "as the settings say"."""

    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    ready_file: Path | None = None
    workers: int = 1
    with_fake_whatsapp: bool = False
    with_sqs: bool = False
    with_lambda: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything decided before the first process starts."""

    settings: Settings
    data_dir: DataDir
    environment: dict[str, str]
    host: str
    port: int
    servers: dict[str, EmbeddedServer]
    fake_whatsapp_port: int | None
    sqs_port: int | None
    options: UpOptions

    @property
    def api_url(self) -> str:
        """Where this machine reaches the API, also when it listens on every address."""
        host = _LOOPBACK if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


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
        with _planned(options) as plan:
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


@contextmanager
def _planned(options: UpOptions) -> Iterator[_Plan]:
    has_database, has_redis = is_set("database_url"), is_set("redis_url")
    if has_database and not (is_set("admin_key") and is_set("secret_key")):
        msg = (
            "ZAPHUB_DATABASE_URL is set, so ZAPHUB_ADMIN_KEY and ZAPHUB_SECRET_KEY must be given too: the secrets in "
            "that database outlive this machine's data folder. Make two with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
        raise Misconfigured(msg)
    if options.ready_file is not None:
        if not os.access(options.ready_file.resolve().parent, os.W_OK):
            raise Misconfigured(f"--ready-file {options.ready_file} cannot be written: make its folder first.")
        if options.ready_file.is_dir():
            raise Misconfigured(f"--ready-file {options.ready_file} is a folder.")
    # Read once for the data folder, where the secrets are that the second reading needs.
    data_dir = DataDir((options.data_dir or local_settings().data_dir).resolve())
    with ExitStack() as held:
        held.enter_context(data_dir.claimed())
        # What an earlier start said is not so any more, and who waits for the file waits for this one.
        for said in filter(None, (data_dir.ready_file, options.ready_file)):
            said.unlink(missing_ok=True)
        sockets = held.enter_context(data_dir.sockets())
        settings = settings_with({"database_url": _EMBEDDED_DATABASE, **data_dir.secrets()})
        servers: dict[str, EmbeddedServer] = {}
        database_url, redis_url = settings.database_url, settings.redis_url
        if not has_database:
            # Its own folder, as it may belong to the account that Postgres runs as.
            private = sockets / "postgres"
            private.mkdir(mode=0o700)
            server = postgres.prepare(data_dir.postgres, sockets=private)
            servers["postgres"], database_url = server, server.url()
        if not has_redis and not options.with_sqs:
            bell = valkey.prepare(data_dir.valkey, sockets=sockets)
            servers["valkey"], redis_url = bell, bell.url
        host = options.host or settings.host
        port = _api_port(host, asked=options.port, settings=settings)
        fake_port = free_port(_LOOPBACK) if options.with_fake_whatsapp else None
        sqs_port = free_port(_LOOPBACK) if options.with_sqs and not settings.sqs_queue_urls else None
        environment = for_children(
            {
                "database_url": database_url,
                "redis_url": redis_url,
                "data_dir": str(data_dir.root),
                "host": host,
                "port": str(port),
                "admin_key": _revealed(settings, "admin_key"),
                "secret_key": _revealed(settings, "secret_key"),
                "host_token": _revealed(settings, "host_token"),
                "fake_whatsapp_url": f"http://{_LOOPBACK}:{fake_port}" if fake_port else settings.fake_whatsapp_url,
                "run_dir": str(data_dir.run),
                # People read it: not JSON, unless they asked for that.
                "log_format": "console" if sys.stdout.isatty() and not is_set("log_format") else settings.log_format,
                "transport": "sqs" if options.with_sqs else settings.transport,
                "sqs_queue_urls": json.dumps(sqs_address.urls(sqs_port) if sqs_port else settings.sqs_queue_urls),
            }
        )
        if sqs_port:
            environment |= sqs_address.CREDENTIALS
        yield _Plan(
            settings=settings,
            data_dir=data_dir,
            environment=environment,
            host=host,
            port=port,
            servers=servers,
            fake_whatsapp_port=fake_port,
            sqs_port=sqs_port,
            options=options,
        )


def _revealed(settings: Settings, name: Literal["admin_key", "secret_key", "host_token"]) -> str | None:
    secret: SecretStr | None = getattr(settings, name)
    return None if secret is None else secret.get_secret_value()


async def _run(plan: _Plan, terminal: Terminal, stop_on: Sequence[signal.Signals], *, began: float) -> int:
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


async def _start(plan: _Plan, supervisor: Supervisor) -> None:
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


def _parts(plan: _Plan) -> Iterator[Part]:
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


def _teller(plan: _Plan, greet: Callable[[], None]) -> Callable[[dict[str, int]], None]:
    """What writes the pids down; it greets after the first time, as who reads that starts the commands that join."""
    greetings = [greet]

    def tell(pids: dict[str, int]) -> None:
        _publish(plan, pids)
        while greetings:
            greetings.pop()()

    return tell


def _publish(plan: _Plan, pids: dict[str, int]) -> None:
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


def _greet(plan: _Plan, terminal: Terminal, *, seconds: float) -> None:
    terminal.say("zaphub", f"ready in {seconds:.1f} s")
    terminal.say("zaphub", f"API        {plan.api_url}  (documentation: {plan.api_url}/docs)")
    terminal.say("zaphub", f"admin key  in {plan.data_dir.secrets_file}")
    if "postgres" in plan.servers:
        terminal.say("zaphub", f"data       {plan.data_dir.root}  (logs/ has one file a part)")
    terminal.say("zaphub", "Ctrl-C stops everything")


def _api_port(host: str, *, asked: int | None, settings: Settings) -> int:
    """Return the port asked for; without one the default, or a free one when that is taken."""
    if asked is None and is_set("port"):
        asked = settings.port
    try:
        if asked and not is_free(host, asked):
            msg = f"Port {asked} on {host} is taken. Choose another with --port, or 0 for any free one."
            raise Misconfigured(msg)
        if asked:
            return asked
        return _DEFAULT_PORT if asked is None and is_free(host, _DEFAULT_PORT) else free_port(host)
    except OSError as error:
        raise Misconfigured(f"The API cannot listen on {host}: {error}. Correct ZAPHUB_HOST or --host.") from error
