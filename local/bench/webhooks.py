"""Webhooks, measured: a healthy receiver alone and beside dead ones, deliveries a second, CPU per delivery.

`.venv/bin/python -m local.bench.webhooks` takes about four minutes and prints the table of docs/performance.md. One
worker process at its defaults, durable Postgres, receivers on loopback in this process; the phases are of one run.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from pydantic import SecretStr

from local.bench.cpu import used_s
from local.bench.program import running
from local.bench.queue_measures import percentile
from local.bench.stand import Stand, stand
from local.part import worker_command
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.webhook import fan_out_job
from shared.egress.target import Target
from shared.queues.runtime import Queues
from shared.sealing import Sealer
from shared.settings import Settings
from shared.webhooks import endpoints
from shared.webhooks.endpoints import Registration

_EVERY_S: Final = 0.1  # ten events a second
_PATIENCE_S: Final = 180.0
_BURST_ENDPOINTS: Final = 10

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """A server on loopback; `arrived` is when each event's number came."""

    url: str
    arrived: dict[int, float] = field(default_factory=dict)


async def _ok(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")


async def _hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _drip_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nX-Slow: ")


async def _drip_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")


async def _drip(writer: asyncio.StreamWriter, start: bytes) -> None:
    writer.write(start)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.5)


async def _pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"\0" * 65_536)
        await writer.drain()


async def _close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
    raise ConnectionResetError


async def _garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def _redirect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")


DEAD: Final[Sequence[Play]] = (_hang, _refuse, _drip_headers, _drip_body, _pour, _close, _garbage, _redirect, _hang)


# A 2xx is a success, whatever the body does.
_TAKEN: Final = (_drip_body, _pour)


async def _receiver(stack: AsyncExitStack, play: Play) -> Receiver:
    made = Receiver("")

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                number = json.loads(await reader.readexactly(length))["payload"].get("n")
                if number is not None:
                    made.arrived.setdefault(number, time.monotonic())
                await play(reader, writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    stack.callback(server.close)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    return made


@dataclass(frozen=True, slots=True)
class Bench:
    """One database with its worker, and a connection whose events become webhooks."""

    queues: Queues
    connection_id: ConnectionId
    worker_pid: int
    stand: Stand

    async def endpoint(self, url: str) -> None:
        async with self.queues.transaction() as tx:
            wanted = Registration(target=Target(url), events=["message.*"])
            await endpoints.create(tx.connection, wanted, sealer=Sealer(self.queues.settings.secret_key))

    async def event(self, *numbers: int) -> None:
        """Append events to the log, as a receive does, and have them fanned out after the commit."""
        async with self.queues.transaction() as tx:
            await tx.connection.execute(
                "INSERT INTO events (tenant_id, connection_id, type, category, severity, payload, fan_out)"
                " SELECT $1, $2, 'message.received', 'message', 'info', jsonb_build_object('n', n), true"
                " FROM unnest($3::int[]) n",
                DEFAULT_TENANT,
                self.connection_id,
                list(numbers),
            )
            await tx.enqueue([fan_out_job(self.connection_id)])

    async def circuits_open(self, count: int) -> None:
        """Wait until so many endpoints failed often enough to be asked rarely: two of ZAPHUB_WEBHOOK_TIMEOUT_S."""
        async with asyncio.timeout(_PATIENCE_S):
            opened = "SELECT count(*) FROM webhook_circuits WHERE openings > 0"
            while await self.queues.pool.fetchval(opened) < count:  # noqa: ASYNC110 - the worker is another process
                await asyncio.sleep(1)

    async def forget_endpoints(self) -> None:
        await self.queues.pool.execute("UPDATE webhook_endpoints SET enabled = false")

    def cpu_s(self) -> tuple[float, float]:
        return used_s([self.worker_pid]), self.stand.cpu_s()


async def paced(bench: Bench, healthy: Receiver, numbers: range) -> list[float]:
    """Milliseconds from an event's commit to its arrival, at ten events a second."""
    committed: dict[int, float] = {}
    for number in numbers:
        await bench.event(number)
        committed[number] = time.monotonic()
        await asyncio.sleep(_EVERY_S)
    await _until(lambda: len(healthy.arrived) >= len(numbers))
    return [max(0.0, healthy.arrived[number] - at) * 1000 for number, at in committed.items()]


async def _until(is_done: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not is_done():  # noqa: ASYNC110 - ten receivers' dictionaries, looked at by the clock
            await asyncio.sleep(0.005)


async def beside(bench: Bench, dead: Sequence[Play], *, events: int, phases: int = 1) -> list[list[float]]:
    """A healthy receiver's milliseconds beside these, phase after phase: the first finds every circuit closed."""
    async with AsyncExitStack() as stack:
        for play in dead:
            await bench.endpoint((await _receiver(stack, play)).url)
        found = []
        for phase in range(phases):
            if phase:
                await bench.circuits_open(sum(play not in _TAKEN for play in dead))
            healthy = await _receiver(stack, _ok)
            await bench.endpoint(healthy.url)
            found.append(await paced(bench, healthy, range(phase * events, (phase + 1) * events)))
        await bench.forget_endpoints()
    return found


async def burst(bench: Bench, *, events: int) -> Mapping[str, float]:
    """Deliveries a second to ten healthy receivers from a backlog, and what one costs."""
    async with AsyncExitStack() as stack:
        receivers = [await _receiver(stack, _ok) for _ in range(_BURST_ENDPOINTS)]
        for receiver in receivers:
            await bench.endpoint(receiver.url)
        worker_s, servers_s = bench.cpu_s()
        began = time.monotonic()
        await bench.event(*range(events))
        await _until(lambda: all(len(receiver.arrived) == events for receiver in receivers))
        took_s = time.monotonic() - began
        worker_after_s, servers_after_s = bench.cpu_s()
        await bench.forget_endpoints()
    deliveries = events * _BURST_ENDPOINTS
    return {
        "deliveries a second": deliveries / took_s,
        "CPU of the worker, ms per delivery": (worker_after_s - worker_s) / deliveries * 1000,
        "CPU of Postgres and Valkey, ms per delivery": (servers_after_s - servers_s) / deliveries * 1000,
    }


async def measure(bench: Bench, *, events: int, burst_events: int) -> list[str]:
    """The lines of the table."""
    await beside(bench, [], events=20)  # the worker's own first steps are nobody's latency
    [alone] = await beside(bench, [], events=events)
    [one] = await beside(bench, [_hang], events=events)
    cold, warm = await beside(bench, DEAD, events=events, phases=2)
    [again] = await beside(bench, [], events=events)
    thrown = await burst(bench, events=burst_events)
    base = percentile(sorted(alone + again), 0.95)
    lines = [
        "| a healthy receiver, event committed → received | median ms | p95 ms | p95, of alone |",
        "|---|---|---|---|",
    ]
    rows = {
        "alone, before": alone,
        "beside one that hangs": one,
        f"beside {len(DEAD)} dead in {len(set(DEAD))} ways, from their first try": cold,
        "beside them, their circuits open": warm,
        "alone, after": again,
    }
    for name, taken in rows.items():
        found = sorted(taken)
        p95 = percentile(found, 0.95)
        lines.append(f"| {name} | {percentile(found, 0.5):.1f} | {p95:.1f} | {p95 / base:.2f}x |")
    lines += ["", f"| {_BURST_ENDPOINTS} receivers, {burst_events} events at once | |", "|---|---|"]
    lines += [f"| {name} | {value:,.2f} |" for name, value in thrown.items()]
    return lines


@contextmanager
def worker(made: Stand, settings: Mapping[str, str]) -> Iterator[int]:
    folder = made.new_folder()
    command = [*worker_command(), "--log-level", "WARNING"]
    environment = made.environment() | dict(settings)
    with running(command, environment=environment, folder=Path.cwd(), log=folder / "worker.log") as program:
        yield program.pid


async def _measure(settings: Settings, pid: int, made: Stand, options: argparse.Namespace) -> list[str]:
    connection_id = ConnectionId(uuid4())
    async with await Queues.open(settings) as queues:
        await queues.pool.execute(
            "INSERT INTO connections (id, tenant_id, label) VALUES ($1, $2, 'bench')", connection_id, DEFAULT_TENANT
        )
        bench = Bench(queues, connection_id, pid, made)
        return await measure(bench, events=options.events, burst_events=options.burst)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="local.bench.webhooks", description=__doc__)
    parser.add_argument("--events", type=int, default=150, help="per phase, ten a second")
    parser.add_argument("--burst", type=int, default=300, help="events of the backlog, each for ten receivers")
    options = parser.parse_args()
    with stand() as made:
        url, key = made.new_database(is_ours=True), secrets.token_urlsafe(32)
        environment = {
            "ZAPHUB_DATABASE_URL": url,
            "ZAPHUB_REDIS_URL": made.valkey.url,
            "ZAPHUB_SECRET_KEY": key,
            "ZAPHUB_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        settings = Settings(_env_file=None, database_url=url, redis_url=made.valkey.url, secret_key=SecretStr(key))
        with worker(made, environment) as pid:
            lines = asyncio.run(_measure(settings, pid, made, options))
    sys.stdout.write("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
