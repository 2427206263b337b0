"""Four processes make, claim, lose, retry, park and finish jobs of one ledger; then their accounts are compared."""

# ruff: noqa: TID251 - a child process gets this process's environment

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.domain.jobs import QueueName
from shared.queues.ledger import set_group

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Desk

CONTENDER = Path(__file__).with_name("contender.py")
REPOSITORY = Path(__file__).parents[3]
PROCESSES, JOBS_EACH = 4, 300
RATE_PER_MINUTE, BURST = 6000, 5
CAPS = {"s0": 1, "s1": 2, "s2": 3}
CAP = 10
ENDS = ("done", "retry", "park")

Event = dict[str, Any]


async def test_four_processes_run_every_job_in_order_within_cap_and_rate(desk: "Desk", database_url: str) -> None:
    for group, cap in CAPS.items():
        await set_group(desk.conn, QueueName.MESSAGE_RECEIVE, group, cap=cap)
    await set_group(desk.conn, QueueName.MESSAGE_SEND, "limited", cap=CAP, rate_per_minute=RATE_PER_MINUTE, burst=BURST)

    events = _contend(database_url)

    rows = await desk.conn.fetch("SELECT pk, state, stalled, position FROM jobs")
    assert len(rows) == PROCESSES * JOBS_EACH
    # A job may be unlucky with its workers too often; every other is done.
    assert {row["state"] for row in rows if row["stalled"] <= 3} == {"completed"}
    _check_claims(events)
    _check_groups(events)
    _check_order(events, {row["pk"]: row["position"] for row in rows})
    tat = (await desk.group("limited"))["tat"].timestamp()
    _check_rate([event for event in events if event["what"] == "claim" and event["group"] == "limited"], tat=tat)
    assert any(event["what"] == "refused" for event in events), "no dead worker spoke again: the test tested nothing"


def _contend(database_url: str) -> list[Event]:
    with ExitStack() as stack:
        processes = [stack.enter_context(_contender(database_url, number)) for number in range(PROCESSES)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=120)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * PROCESSES
    return sorted((event for text in said for event in json.loads(text)), key=lambda event: event["stamp"])


@contextmanager
def _contender(database_url: str, number: int) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(CONTENDER), database_url, str(number), str(JOBS_EACH)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _check_claims(events: Sequence[Event]) -> None:
    """Each claim is another; before the next claim of its job it ended or lapsed, and after that it ends nothing."""
    claims = [event for event in events if event["what"] == "claim"]
    assert len({event["stamp"] for event in claims}) == len(claims)
    lapsed = {event["fence"] for event in events if event["what"] == "lapse"}
    refused = {event["fence"] for event in events if event["what"] == "refused"}
    ends = {event["fence"]: event for event in events if event["what"] in ENDS}
    assert refused <= lapsed, "a claim was lost that had not lapsed"
    of_job = defaultdict(list)
    for event in claims:
        of_job[event["pk"]].append(event["stamp"])
    for fences in of_job.values():
        for fence, following in pairwise([*fences, None]):
            if following is None:
                assert fence in refused or ends[fence]["what"] == "done"
            elif fence not in refused:
                assert ends[fence]["what"] in ("retry", "park")
                assert ends[fence]["stamp"] < following, "it ended another's claim"


def _check_groups(events: Sequence[Event]) -> None:
    """At no moment did a group have more in flight than its cap, or an order key more than one."""
    ends = {event["fence"] for event in events if event["what"] in ENDS}
    running: dict[str, set[int]] = defaultdict(set)
    keys: dict[str, set[int]] = defaultdict(set)
    for event in events:
        group, key = event["group"], event["key"]
        if event["what"] == "claim" and event["stamp"] in ends:
            running[group or ""].add(event["stamp"])
            assert group is None or len(running[group]) <= CAPS.get(group, CAP)
            if key is not None:
                keys[key].add(event["stamp"])
                assert len(keys[key]) == 1, f"two of {key} in flight"
        elif event["what"] in ENDS:
            running[group or ""].discard(event["fence"])
            if key is not None:
                keys[key].discard(event["fence"])


def _check_order(events: Sequence[Event], places: dict[int, int]) -> None:
    done = defaultdict(list)
    for event in events:
        if event["what"] == "done" and event["key"] is not None:
            done[event["key"]].append(places[event["pk"]])
    assert all(order == sorted(order) for order in done.values())


def _check_rate(claims: Sequence[Event], *, tat: float) -> None:
    """In no span of time were there more claims than its tokens, and the bucket paid for each of them once."""
    per_s = RATE_PER_MINUTE / 60
    paid_until = 0.0
    for event in claims:
        paid_until = max(paid_until, event["at"]) + 1 / per_s
    assert abs(paid_until - tat) * per_s < 0.02 * len(claims)
    times = sorted(event["at"] for event in claims)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= (BURST + (times[last] - start) * per_s) * 1.02 + 1e-3
