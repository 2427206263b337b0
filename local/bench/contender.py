"""What is measured: a queue with a producer program and a worker program, over one of the stand's servers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local.bench.producing import Order
from local.bench.program import Program, finished, running
from local.bench.stand import Stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How a worker works: so many jobs at once, records into that folder, each record at once if it will be killed."""

    concurrency: int
    records: Path
    is_immediate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program's command line, and what its environment has beyond ours."""

    words: Sequence[str | Path]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Produced:
    """What a producer did: jobs that count, seconds they took, CPU seconds it used."""

    jobs: int
    seconds: float
    cpu_s: float


class Contender(Protocol):
    """One queue. `jobs_scale` is how many jobs it is given where ours gets 1: slow ones would take all day."""

    @property
    def name(self) -> str: ...
    @property
    def jobs_scale(self) -> float: ...
    def reset(self) -> None:
        """Begin with an empty queue."""

    def producer(self, order: Order) -> Command: ...
    def worker(self, work: Work) -> Command: ...
    def stored_bytes(self) -> int:
        """What the queue's server holds now, on disk or in memory."""


def produce(stand: Stand, contender: Contender, order: Order) -> Produced:
    """Run the producer to its end."""
    command = contender.producer(order)
    output = finished(command.words, environment=stand.environment() | dict(command.environment), folder=stand.folder)
    said = json.loads(output.strip().splitlines()[-1])
    return Produced(said["jobs"], said["seconds"], said["cpu_s"])


@contextmanager
def worker(stand: Stand, contender: Contender, work: Work) -> Iterator[Program]:
    """Run a worker for the length of the block. It may take a second or two before it works."""
    command = contender.worker(work)
    environment = stand.environment() | dict(command.environment)
    with running(command.words, environment=environment, folder=work.records, log=work.records / "output") as program:
        yield program
