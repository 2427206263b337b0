"""The run that lasts: many sessions send and receive at a modest rate, and what they hold must stay flat."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from local.demo.errors import DemoStopped
from local.soak import sampling
from local.soak.evidence import Findings, Ledger, Letter
from local.soak.looking import look
from local.soak.sampling import Held
from local.soak.stand import CHATS, Layout, Linked, Stand, contact_of, phones
from local.soak.trend import FEWEST_SAMPLES, Trend, trend

_BURST: Final = 200  # messages of one session, and about as many of all together
_BURST_S: Final = 120
_CALM_S: Final = 10  # after the pairing: uploads and first queries are over
_SETTLE_S: Final = 120
_LOOK_S: Final = 1.0
_GIB_OF_MIB: Final = 1024
_OTHERS: Final = ("api", "worker-1", "scheduler")
# What may come and go by itself, per session host process: in MiB, threads, open files; connections are of all parts.
_SLACK: Final = {"memory": 8.0, "threads": 4.0, "files": 6.0, "connections": 4.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """`every_s`: how often each session sends one message and gets one."""

    layout: Layout
    minutes: float
    every_s: float
    sample_s: float

    @property
    def samples(self) -> int:
        """How many are taken."""
        return int(self.minutes * 60 / self.sample_s)


@dataclass(frozen=True, slots=True)
class Sample:
    """What is held at one moment. `others`: API, worker and scheduler."""

    at_s: float
    hosts: Held
    others: Held
    connections: int
    load: float


@dataclass(frozen=True, slots=True)
class _Shift:
    """What those who work write down, and when they stop; an exchange that was begun is finished."""

    ledger: Ledger
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Report:
    """What a run measured; `base` is what the host processes hold without a session."""

    sessions: int
    children: int
    base: Held
    full: Held
    pairing_s: float
    seconds_each: list[float]
    one_sends_per_s: float
    all_send_per_s: float
    samples: list[Sample] = field(default_factory=list)
    findings: Findings | None = None
    reconnects: int = 0

    @property
    def per_gib(self) -> float:
        """Sessions per GiB of RSS, the processes themselves counted in: what they share is counted in each."""
        return self.sessions / self.full.rss_mib * _GIB_OF_MIB

    @property
    def per_gib_without_base(self) -> float:
        """Sessions per GiB of RSS beyond what the processes hold without any."""
        return self.sessions / max(self.full.rss_mib - self.base.rss_mib, 1) * _GIB_OF_MIB

    def trends(self) -> Iterator[tuple[str, Trend]]:
        """Each measure that must stay flat, by its title."""
        many = self.children
        for title, values, slack in (
            ("memory of the session hosts, MiB RSS", [one.hosts.rss_mib for one in self.samples], "memory"),
            ("threads of the session hosts", [one.hosts.threads for one in self.samples], "threads"),
            ("open files of the session hosts", [one.hosts.files for one in self.samples], "files"),
            ("memory of API, worker, scheduler, MiB RSS", [one.others.rss_mib for one in self.samples], "memory"),
            ("threads of API, worker, scheduler", [one.others.threads for one in self.samples], "threads"),
            ("open files of API, worker, scheduler", [one.others.files for one in self.samples], "files"),
        ):
            yield title, trend(values, slack=_SLACK[slack] * many)
        yield "connections to Postgres", trend([one.connections for one in self.samples], slack=_SLACK["connections"])

    @property
    def holds(self) -> bool:
        """Flat, and nothing lost, doubled, swallowed or out of order."""
        is_right = self.findings is not None and self.findings.holds and not self.findings.swallowed
        return is_right and not self.reconnects and all(one.is_flat for _, one in self.trends())


async def run(stand: Stand, plan: Plan) -> Report:
    """Pair all sessions, measure, then let them work. Raises DemoStopped when something does not come in time."""
    if plan.samples < FEWEST_SAMPLES:
        raise DemoStopped(
            f"{plan.samples} samples say nothing about a trend: it takes {FEWEST_SAMPLES}, so run longer."
        )
    base = sampling.held(sampling.hosts(stand.pids()))
    began = time.monotonic()
    linked = await stand.link(phones(plan.layout.sessions))
    pairing_s = time.monotonic() - began
    await asyncio.sleep(_CALM_S)
    full = sampling.held(sampling.hosts(stand.pids()))
    ledger = Ledger()
    one_per_s = await _burst(stand, linked[:1], ledger, name="one")
    all_per_s = await _burst(stand, linked, ledger, name="all")
    seconds = sorted(one.seconds for one in linked)
    report = Report(plan.layout.sessions, plan.layout.children, base, full, pairing_s, seconds, one_per_s, all_per_s)
    before = await stand.sockets()
    async with asyncio.TaskGroup() as group:
        shift = _Shift(ledger)
        for number in range(len(linked)):
            group.create_task(_work(stand, linked, number, plan, shift))
        await _sample(stand, plan, report)
        shift.is_over.set()
    after = await stand.sockets()
    report.reconnects = sum(connects - before[phone][1] for phone, (_, connects) in after.items())
    report.findings = await _settled(stand, linked, ledger)
    return report


async def _burst(stand: Stand, linked: Sequence[Linked], ledger: Ledger, *, name: str) -> float:
    """Messages per second, from the request that hands them over all at once to the last frame on the wire."""
    each = max(_BURST // len(linked), 1)
    before = len(await stand.wire())

    async def accept(session: int, one: Linked) -> None:
        letters = [Letter(contact_of(session, number % CHATS), f"{name}-{session}-{number}") for number in range(each)]
        bodies = [{"to": a.chat, "type": "text", "payload": {"text": a.text}, "message_id": a.text} for a in letters]
        await stand.ask(stand.api, "POST", f"/connections/{one.connection_id}/send/batch", json={"messages": bodies})
        ledger.accepted.extend(letters)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for session, one in enumerate(linked):
            group.create_task(accept(session, one))
    while len(await stand.wire()) < before + each * len(linked):
        if time.monotonic() - began > _BURST_S:
            raise DemoStopped(f"{each * len(linked)} messages were not on the wire after {_BURST_S} s.")
        await asyncio.sleep(0.1)
    return each * len(linked) / (time.monotonic() - began)


async def _work(stand: Stand, linked: Sequence[Linked], session: int, plan: Plan, shift: _Shift) -> None:
    """Send one and get one, again and again; sessions begin one after the other."""
    due = time.monotonic() + plan.every_s * session / len(linked)
    for number in count():
        with suppress(TimeoutError):
            async with asyncio.timeout(max(due - time.monotonic(), 0)):
                await shift.is_over.wait()
        if shift.is_over.is_set():
            return
        due += plan.every_s
        contact = contact_of(session, number % CHATS)
        await _exchange(stand, linked[session], contact, f"{session}-{number}", shift.ledger)


async def _exchange(stand: Stand, one: Linked, contact: str, name: str, ledger: Ledger) -> None:
    ledger.accepted.append(Letter(contact, f"out-{name}"))
    await stand.send(one.connection_id, to=contact, text=f"out-{name}")
    ledger.written.append(Letter(contact, f"in-{name}"))
    await stand.write(one.phone, sender=contact, text=f"in-{name}")


async def _sample(stand: Stand, plan: Plan, report: Report) -> None:
    began = time.monotonic()
    for number in range(1, plan.samples + 1):
        await asyncio.sleep(max(began + number * plan.sample_s - time.monotonic(), 0))
        pids = stand.pids()
        # A part that is just started again is missing.
        others = [one for name in _OTHERS if name in pids for one in sampling.family(pids[name])]
        report.samples.append(
            Sample(
                at_s=round(time.monotonic() - began, 1),
                hosts=sampling.held(sampling.hosts(pids)),
                others=sampling.held(others),
                connections=(await sampling.connections(stand.pool)).total(),
                load=os.getloadavg()[0],
            )
        )


async def _settled(stand: Stand, linked: Sequence[Linked], ledger: Ledger) -> Findings:
    began = time.monotonic()
    while True:
        found = await look(stand, linked, ledger)
        if (found.holds and not found.swallowed) or time.monotonic() - began > _SETTLE_S:
            return found
        await asyncio.sleep(_LOOK_S)
