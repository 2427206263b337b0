"""What a part of a running ZapHub is: its command, when it counts as ready, and how it stops."""

import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_CONNECT_TIMEOUT_S = 0.2
# Taskiq's manager looks once a second; after its grace the worker still records how its jobs ended.
_TO_NOTICE_AND_FLUSH_S = 10


@dataclass(frozen=True, slots=True)
class Part:
    """One process that the supervisor keeps running.

    `is_ready` is asked with the pid of the process; None means that the part announces itself in the run directory
    under its name, possibly from a process of its own making, as a worker does. `after` names parts that must be ready
    before this one starts. Parts stop from the lowest `stop_rank` up, each given `stop_s` seconds.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    stop_rank: int
    is_ready: Callable[[int], bool] | None = None
    after: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10
    is_quiet: bool = False


def api(environment: Mapping[str, str], *, host: str, port: int) -> Part:
    """Return the HTTP API, listening on `host` and `port`."""
    # The supervisor says where it listens.
    command = [*api_command(host=host, port=port), "--log-level", "warning"]
    return Part(name="api", command=command, environment=environment, stop_rank=1)


def api_command(*, host: str, port: int) -> list[str]:
    """Return the command line of the HTTP API."""
    address = ["--host", host, "--port", str(port)]
    # A stream of events stays open for ever; three seconds are enough for every other request.
    manner = ["--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "3"]
    # Slow heads end in time, and ZAPHUB_TRUSTED_PROXIES alone says whose X-Forwarded-For is believed.
    guard = ["--http", "api.patient_http:PatientHttp", "--no-proxy-headers"]
    return [sys.executable, "-m", "uvicorn", "api.app:app", *address, *manner, *guard]


def worker(environment: Mapping[str, str], *, number: int, grace_s: float) -> Part:
    """Return one worker for all queues; `number` counts from 1. It takes `grace_s` seconds to finish what it runs.

    It announces itself from the process that runs the jobs, a child of the one started here. When that child dies the
    supervisor replaces both: Taskiq's own manager looks once a second, and goes on for ever with one that cannot start.
    """
    return Part(
        name=f"worker-{number}",
        command=[*worker_command(), "--max-fails", "1", "--log-level", "WARNING"],
        environment=environment,
        stop_rank=2,
        stop_s=grace_s + _TO_NOTICE_AND_FLUSH_S,
    )


def worker_command() -> list[str]:
    """Return the command line of a worker for all queues."""
    return [sys.executable, "-m", "taskiq", "worker", "functions.worker:broker", "--workers", "1"]


def scheduler(environment: Mapping[str, str]) -> Part:
    """Return the scheduler, which rings for what falls due."""
    command = [*scheduler_command(), "--log-level", "WARNING"]
    return Part(name="scheduler", command=command, environment=environment, stop_rank=2)


def scheduler_command() -> list[str]:
    """Return the command line of the scheduler."""
    return [sys.executable, "-m", "taskiq", "scheduler", "functions.scheduler:scheduler"]


def session_host(environment: Mapping[str, str], *, with_fake: bool, after: tuple[str, ...] = ()) -> Part:
    """Return the host that holds the WhatsApp sockets; `with_fake` when the environment names a fake server."""
    return Part(
        name="session-host",
        command=session_host_command(with_fake=with_fake),
        environment=with_room_for_ca(environment) if with_fake else environment,
        stop_rank=3,
        stop_s=20,
        after=after,
    )


def session_host_command(*, with_fake: bool) -> list[str]:
    """Return the command line of a session host."""
    # A host never imports local/: it is told by name what points the library at the fake server.
    connector = ["--connector", "local.fake_whatsapp.connector:install"] if with_fake else []
    return [sys.executable, "-m", "session_host", *connector]


def with_room_for_ca(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a place for the variable in which the connector tells Go of the fake server's CA.

    Go reads the process's first environment, in which a value can be changed and no variable added.
    """
    return {"SSL_CERT_FILE": "", **environment}


def sqs(environment: Mapping[str, str], *, port: int) -> Part:
    """Return a server that speaks SQS, for this machine."""
    return Part(
        name="sqs",
        command=[sys.executable, "-m", "local.sqs_server", "--port", str(port)],
        environment=environment,
        stop_rank=4,
        is_quiet=True,
    )


def lambda_functions(environment: Mapping[str, str], *, after: tuple[str, ...]) -> Part:
    """Return the functions in a Lambda of this machine, in the place of a worker and of the scheduler."""
    command = [sys.executable, "-m", "local.lambda_runtime", "functions"]
    return Part(name="worker-1", command=command, environment=environment, stop_rank=2, stop_s=20, after=after)


def lambda_api(environment: Mapping[str, str], *, host: str, port: int) -> Part:
    """Return the API in a Lambda of this machine, behind a door that listens on `host` and `port`."""
    command = [sys.executable, "-m", "local.lambda_runtime", "api", "--host", host, "--port", str(port)]
    return Part(name="api", command=command, environment=environment, stop_rank=1)


def fake_whatsapp(environment: Mapping[str, str], *, port: int, data: str) -> Part:
    """Return the fake WhatsApp server with its control API on `port`, which stays the same over a restart."""
    return Part(
        name="fake-whatsapp",
        command=[
            *[sys.executable, "-m", "local.fake_whatsapp"],
            *["--control-port", str(port), "--data-dir", data],
        ],
        environment=environment,
        stop_rank=4,
        is_ready=lambda _pid: _answers(port),
    )


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
