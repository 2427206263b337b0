"""`./zh demo` keeps its promise on this machine, and its table tells what does not hold."""

# ruff: noqa: TID251 - the demo inherits the environment

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.demo.sink import Sink, Webhook
from local.demo.tally import Evidence, Letter, tally

CHECKOUT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the fake WhatsApp server is reached on Linux only")


def _demo(folder: Path, *arguments: str, timeout_s: float = 20) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local.cli", "demo", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in seen:
                found.append(seen[:200].decode(errors="replace"))
    return found


@LINUX
@pytest.mark.e2e
@pytest.mark.wire
@pytest.mark.timeout(300)
def test_the_demo_and_its_tour_hold_though_a_worker_is_killed_and_leave_nothing_behind(tmp_path: Path) -> None:
    ended = _demo(tmp_path, "--tour", timeout_s=280)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "killed with" in ended.stdout
    assert "is back after" in ended.stdout
    assert re.search(r"reaction, edit, revoke +yes +yes", ended.stdout)
    assert list(tmp_path.glob("zaphub-demo-*")) == []
    assert _processes_of(tmp_path) == []


def _evidence() -> Evidence:
    sink = Sink("whsec_")
    letters = [Letter("551", "one", "m1"), Letter("551", "two", "m2")]
    _hook(sink, 1, "message.read", {"message_id": "m1"})
    _hook(sink, 2, "message.read", {"message_id": "m2"})
    _hook(sink, 3, "message.received", {"payload": {"text": "answer"}})
    return Evidence(
        letters=letters,
        accepted=frozenset({"m1", "m2"}),
        inbound=[Letter("551", "answer")],
        outbound_rows=[{"message_id": "m1", "status": "read"}, {"message_id": "m2", "status": "read"}],
        inbound_rows=[{"payload": {"text": "answer"}}],
        wire=[{"to": "551", "text": "one"}, {"to": "551", "text": "two"}],
        sink=sink,
    )


def _hook(sink: Sink, number: int, event: str, payload: dict[str, Any]) -> None:
    body = {"id": f"w{number}", "event": event, "sequence": number, "payload": payload}
    sink.webhooks[f"w{number}"] = Webhook(json.dumps(body).encode(), body)


def test_a_table_without_a_fault_holds() -> None:
    found = tally(_evidence())

    assert found.holds, found.complaints
    assert (found.accepted, found.on_the_wire, found.read, found.received) == (2, 2, 2, 1)
    assert (found.lost, found.doubled) == (0, 0)


def test_a_message_that_never_came_is_lost() -> None:
    good = _evidence()

    found = tally(replace(good, wire=good.wire[:1]))

    assert found.lost == 1
    assert not found.holds


def test_a_message_that_came_twice_is_doubled() -> None:
    good = _evidence()

    found = tally(replace(good, wire=[*good.wire, good.wire[0]]))

    assert found.doubled == 1
    assert not found.holds


def test_two_messages_of_a_chat_that_changed_places_are_told() -> None:
    good = _evidence()

    found = tally(replace(good, wire=good.wire[::-1]))

    assert [text for text in found.complaints if "out of order" in text]


def test_an_answer_that_was_stored_twice_is_doubled() -> None:
    good = _evidence()

    found = tally(replace(good, inbound_rows=[*good.inbound_rows, *good.inbound_rows]))

    assert found.doubled == 1
    assert not found.holds


def test_a_gap_in_the_webhooks_is_told() -> None:
    good = _evidence()
    _hook(good.sink, 5, "message.sent", {"message_id": "m1"})

    found = tally(good)

    assert found.complaints == ("webhooks are missing: numbers 4",)


def test_an_unsigned_webhook_is_told() -> None:
    good = _evidence()
    good.sink.wrong.append("webhook w9 was not signed with the connection's secret")

    assert not tally(good).holds
