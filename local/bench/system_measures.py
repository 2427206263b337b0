"""The measurements of whole services: how fast they accept, and how fast what they accepted is sent."""

import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from local.bench.cpu import used_s
from local.bench.http_load import Load
from local.bench.program import ProgramFailed, finished
from local.bench.stand import Stand
from local.bench.systems import Door, System

Measure = Callable[[], Mapping[str, float]]

_WARM_UP: Final = 200
# Two hundred batches for two hundred sessions, of which each sends one message at a time.
_BATCH: Final = 30
WIDE: Final = 50
_START_S: Final = 60.0
_STALL_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
# A service that has more than it can do may send a client away for a moment.
_EXPECTED: Final = frozenset({"202", "503"})


def end_to_end(stand: Stand, system: System, *, messages: int) -> Measure:
    """From the first request to the last message that is `sent`, 50 clients, 200 sessions of 5 chats each."""

    def run() -> Mapping[str, float]:
        with system.open(with_worker=True) as door:
            _until_open(door)
            _post(stand, door, messages=_WARM_UP)
            _last_sent(stand, door, _WARM_UP)
            pids = [program.pid for program in door.programs]
            cpu_s = used_s(pids) + stand.cpu_s()
            single = _timed(stand, door, messages=messages, before=_WARM_UP)
            cpu_s = used_s(pids) + stand.cpu_s() - cpu_s
            return {"end_to_end": single, "cpu_end_to_end": cpu_s * 1000 / messages}

    return run


def end_to_end_batch(stand: Stand, system: System, *, messages: int) -> Measure:
    """As `end_to_end`, in batches of 30; who has no call for that is asked one by one."""

    def run() -> Mapping[str, float]:
        with system.open(with_worker=True) as door:
            _until_open(door)
            _post(stand, door, messages=_WARM_UP)
            _last_sent(stand, door, _WARM_UP)
            batch = _BATCH if system.takes_batches else 1
            return {"end_to_end_batch": _timed(stand, door, messages=messages, before=_WARM_UP, batch=batch)}

    return run


def end_to_end_wide(stand: Stand, system: System, *, messages: int) -> Measure:
    """As `end_to_end`; what it is worth to send more than the default at once."""
    measured = end_to_end(stand, system, messages=messages)

    def run() -> Mapping[str, float]:
        return {f"{name}_c{WIDE}": value for name, value in measured().items()}

    return run


def send_202(stand: Stand, system: System, *, requests: int) -> Measure:
    """50 clients, no worker: how many requests a second are answered 202."""

    def run() -> Mapping[str, float]:
        with system.open(with_worker=False) as door:
            _until_open(door)
            _post(stand, door, messages=_WARM_UP)
            seconds: float = _post(stand, door, messages=requests)["seconds"]
            return {"send_202": requests / seconds}

    return run


def send_bursts(stand: Stand, system: System, *, requests: int) -> Measure:
    """50 clients that all send at the same moment, again once all are answered; no worker. How long an answer takes."""

    def run() -> Mapping[str, float]:
        with system.open(with_worker=False) as door:
            _until_open(door)
            _post(stand, door, messages=_WARM_UP)
            found = _post(stand, door, messages=requests, in_bursts=True)
            return {"send_burst_p50": found["p50_ms"], "send_burst_p99": found["p99_ms"]}

    return run


def _timed(stand: Stand, door: Door, *, messages: int, before: int, batch: int = 1) -> float:
    """Messages a second."""
    began: float = _post(stand, door, messages=messages, batch=batch)["began"] / 1e9
    return messages / (_last_sent(stand, door, before + messages) - began)


def _post(stand: Stand, door: Door, *, messages: int, batch: int = 1, in_bursts: bool = False) -> dict[str, Any]:
    load = Load(
        port=door.port,
        sessions=list(door.sessions),
        messages=messages,
        headers=dict(door.headers),
        batch=batch,
        in_bursts=in_bursts,
    )
    command = [sys.executable, "-m", "local.bench.http_load", load.to_json()]
    found: dict[str, Any] = json.loads(finished(command, environment=stand.environment(), folder=stand.folder))
    if not set(found["statuses"]) <= _EXPECTED:
        raise ProgramFailed(f"answers were {found['statuses']}: {_said(door)}")
    return found


def _last_sent(stand: Stand, door: Door, messages: int) -> float:
    """When the last of so many messages was sent, in seconds of the wall clock. Raises ProgramFailed when it stalls."""
    count, changed_at = -1, time.monotonic()
    while True:
        for program in door.programs:
            program.check()
        [found] = stand.ask("SELECT count(*) FROM messages WHERE status = 'sent'", url=door.database_url)
        if (sent := int(str(found))) >= messages:
            [last] = stand.ask("SELECT extract(epoch FROM max(sent_at))::float8 FROM messages", url=door.database_url)
            return float(str(last))
        if sent != count:
            count, changed_at = sent, time.monotonic()
        if time.monotonic() - changed_at > _STALL_S:
            raise ProgramFailed(f"only {sent} of {messages} messages were sent: {_said(door)}")
        time.sleep(_LOOK_EVERY_S)


def _until_open(door: Door) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        for program in door.programs:
            program.check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", door.port), timeout=1):
            return
        time.sleep(_LOOK_EVERY_S)
    raise ProgramFailed(f"the API does not answer: {_said(door)}")


def _said(door: Door) -> str:
    return "\n".join(program.said() for program in door.programs)
