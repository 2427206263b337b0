"""How a measured producer makes its jobs. Standard library only: a peer's own environment imports it too."""

import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final, Literal

Job = dict[str, Any]
Mode = Literal["bulk", "each", "paced"]
Shape = Literal["flat", "chats", "tenants"]

_BULK: Final = 500
_WARM_UP: Final = 100
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ0123456789"
# With its other fields a job is 1 KB of JSON, and its text is not one that compresses to nothing.
_TEXT: Final = "".join(random.Random(7).choices(_LETTERS, k=920))  # noqa: S311 - a text, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be produced.

    `bulk` hands over 500 jobs a call; `each` makes every job by a call of its own, `producers` of them waiting for
    their answers at a time; `paced` makes one job every `interval_ms`. `work_ms` is how long a handler sleeps.
    `shape` is what the jobs belong to, where a queue knows such a thing: nothing, 200 groups of 5 chats each whose
    order is kept, or one group per tenant.
    """

    jobs: int
    mode: Mode = "bulk"
    first_id: int = 0
    producers: int = 50
    interval_ms: float = 20.0
    work_ms: int = 0
    tenant: str = "A"
    shape: Shape = "flat"

    def to_json(self) -> str:
        """The argument of a producer program."""
        return json.dumps(asdict(self))


def from_argument() -> Order:
    """The order given to this program."""
    return Order(**json.loads(sys.argv[1]))


def make_job(order: Order, number: int) -> Job:
    """One job of 1 KB, as asked for now."""
    return {
        "id": number,
        "tenant": order.tenant,
        "workMs": order.work_ms,
        "called": time.time_ns(),
        "to": "5511999998888@s.whatsapp.net",
        "text": _TEXT,
    }


async def produce(
    order: Order,
    add: Callable[[Job], Awaitable[object]],
    add_many: Callable[[Sequence[Job]], Awaitable[object]],
) -> None:
    """Make the jobs and print `jobs`, `seconds` and `cpu_s` as JSON; the first hundred of `each` are not counted."""
    numbers = iter(range(order.first_id, order.first_id + order.jobs))
    warm = min(_WARM_UP, order.jobs // 10) if order.mode == "each" else 0
    for _ in range(warm):
        await add(make_job(order, next(numbers)))
    cpu_s, began = _cpu_s(), time.perf_counter()
    if order.mode == "bulk":
        while batch := [make_job(order, number) for number in islice(numbers, _BULK)]:
            await add_many(batch)
    elif order.mode == "each":
        await asyncio.gather(*[_one_producer(order, numbers, add) for _ in range(order.producers)])
    else:
        for number in numbers:
            due = time.perf_counter() + order.interval_ms / 1000
            await add(make_job(order, number))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    seconds = time.perf_counter() - began
    sys.stdout.write(
        json.dumps({"jobs": order.jobs - warm, "seconds": seconds, "cpu_s": _cpu_s() - cpu_s}, allow_nan=False) + "\n"
    )


async def _one_producer(order: Order, numbers: Iterator[int], add: Callable[[Job], Awaitable[object]]) -> None:
    for number in numbers:
        await add(make_job(order, number))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
