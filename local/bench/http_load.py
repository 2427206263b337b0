"""Clients that POST and wait for the answer, as cheap as can be: `python -m local.bench.http_load SPEC`.

They share two cores with what they measure, so they speak just enough HTTP: kept connections, a ready body, and of the
answer the status and the length. Prints `began` (nanoseconds of the wall clock), `seconds`, `statuses` and the answers'
latencies `p50_ms` and `p99_ms` as JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import quantiles
from typing import Any, Final

import uvloop

_TEXT: Final = "Pedido 4711 confirmado, obrigado pela compra! " * 4
_CHATS: Final = 5
# What a client does that is told to come back.
_UNAVAILABLE: Final = 503
_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`messages` in requests of `batch` each, spread over `sessions` and five chats of each, by `clients` at a time.

    In bursts the last one is left out unless it is whole.
    """

    port: int
    sessions: list[str]
    messages: int
    headers: dict[str, str]
    clients: int = 50
    batch: int = 1
    in_bursts: bool = False  # every client sends one at the same moment, again and again, once all are answered

    def to_json(self) -> str:
        """The argument of this program."""
        return json.dumps(asdict(self))


async def main() -> None:
    """Send everything."""
    load = Load(**json.loads(sys.argv[1]))
    requests = _requests(load)
    seen = _Seen()
    bursts = asyncio.Barrier(load.clients) if load.in_bursts else None
    if bursts is not None:
        requests = islice(requests, load.messages // load.batch // load.clients * load.clients)
    began_ns, began = time.time_ns(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(load.clients):
            group.create_task(_client(load.port, requests, seen, bursts))
    seconds = time.perf_counter() - began
    found = {"began": began_ns, "seconds": seconds, "statuses": seen.statuses, **seen.latencies()}
    sys.stdout.write(json.dumps(found) + "\n")


def _requests(load: Load) -> Iterator[bytes]:
    headers = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    for number in range(0, load.messages, load.batch):
        session = load.sessions[number // load.batch % len(load.sessions)]
        count = min(load.batch, load.messages - number)
        messages = [_message(number // load.batch // len(load.sessions) + one) for one in range(count)]
        path, body = ("send", messages[0]) if load.batch == 1 else ("send/batch", {"messages": messages})
        content = json.dumps(body).encode()
        yield (
            f"POST /connections/{session}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode() + content


def _message(number: int) -> dict[str, Any]:
    return {"to": f"55119999{number % _CHATS:05d}", "type": "text", "payload": {"text": _TEXT}}


async def _client(port: int, requests: Iterator[bytes], seen: "_Seen", bursts: asyncio.Barrier | None) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        if bursts is not None:
            await bursts.wait()
        while await _status(request, reader, writer, seen) == _UNAVAILABLE:  # noqa: ASYNC110 - not an event of ours
            await asyncio.sleep(_AGAIN_S)
    writer.close()


async def _status(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: "_Seen") -> int:
    began = time.perf_counter()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    status = int(head.split(b" ", 2)[1])
    seen.statuses[status] += 1
    seen.seconds.append(time.perf_counter() - began)
    return status


@dataclass(slots=True)
class _Seen:
    """What the clients got, and after how long."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def latencies(self) -> dict[str, float]:
        percentiles = quantiles(self.seconds, n=100, method="inclusive")
        return {"p50_ms": percentiles[49] * 1000, "p99_ms": percentiles[98] * 1000}


if __name__ == "__main__":
    uvloop.run(main())
