"""The command `python -m local.soak`: its options, its folder, its exit code."""

import argparse
import asyncio
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from local.data_dir import DataDir
from local.demo.errors import DemoStopped
from local.interruption import unwinding
from local.soak import kills, steady, telling
from local.soak.stand import Layout, standing
from local.soak.trend import RULE

_HELD, _DID_NOT_HOLD, _NOT_HERE, _WRONG, _INTERRUPTED = 0, 1, 2, 2, 130


def main(arguments: Sequence[str]) -> int:
    """Run it; 0 when it holds, 1 when not, 2 where it cannot run, 130 after a signal."""
    options = _parser().parse_args(arguments)
    if sys.platform != "linux":
        sys.stderr.write(f"soak: needs Linux, and this is {sys.platform}: it reads /proc and kills processes.\n")
        return _NOT_HERE
    if options.json is not None and not options.json.resolve().parent.is_dir():
        # Before the run, not after half an hour of it.
        sys.stderr.write(f"soak: --json {options.json} cannot be written: make its folder first.\n")
        return _WRONG
    folder = Path(tempfile.mkdtemp(prefix="zaphub-soak-"))
    code = _DID_NOT_HOLD
    try:
        with unwinding():
            code = asyncio.run(_run(options, folder))
    except* DemoStopped as stopped:
        sys.stderr.write(f"soak: {stopped.exceptions[0]}\n")
    except* httpx.TransportError as error:
        sys.stderr.write(f"soak: a server stopped answering: {error.exceptions[0]!r}\n")
    except* (KeyboardInterrupt, SystemExit):
        code = _INTERRUPTED
    finally:
        if code == _DID_NOT_HOLD:
            sys.stderr.write(f"soak: logs: {folder / 'up.log'}, and one file a part in {folder / 'data' / 'logs'}\n")
        else:
            DataDir(folder / "data").remove()
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.soak",
        allow_abbrev=False,
        description="Long runs against a fake WhatsApp server, on this machine only, counted from outside. "
        "Exit code 0 only if everything holds.",
    )
    runs = parser.add_subparsers(dest="run", required=True, metavar="RUN")
    text = "kill -9 of session hosts while they send: lost, doubled, in doubt, how soon they are back"
    killing = runs.add_parser("kills", help=text, description=text, allow_abbrev=False)
    killing.add_argument("--sends", type=_positive, default=2000, help="messages to send (default 2000)")
    killing.add_argument("--kills", type=_positive, default=50, help="host children to kill (default 50)")
    killing.add_argument("--seed", type=int, default=1, help="decides who is killed and when (default 1)")
    _add_layout(killing, sessions=4, children=2)
    text = "many sessions for a long time: memory, threads, files and connections to Postgres must stay flat"
    lasting = runs.add_parser("steady", help=text, description=f"{text}. {RULE}.", allow_abbrev=False)
    lasting.add_argument("--minutes", type=_some, default=30, help="how long they work (default 30)")
    lasting.add_argument("--every", type=_some, default=20, help="seconds between a session's messages (default 20)")
    lasting.add_argument("--sample", type=_some, default=30, help="seconds between two samples (default 30)")
    _add_layout(lasting, sessions=100, children=4)
    return parser


def _add_layout(parser: argparse.ArgumentParser, *, sessions: int, children: int) -> None:
    parser.add_argument("--sessions", type=_positive, default=sessions, help=f"linked phones (default {sessions})")
    parser.add_argument("--children", type=_positive, default=children, help=f"host processes (default {children})")
    parser.add_argument("--json", type=Path, metavar="F", help="write what was measured there too")


async def _run(options: argparse.Namespace, folder: Path) -> int:
    layout = Layout(options.sessions, options.children)
    report: kills.Report | steady.Report
    async with standing(folder, layout) as stand:
        if options.run == "kills":
            killing = kills.Plan(sends=options.sends, kills=options.kills, layout=layout, seed=options.seed)
            report = await kills.run(stand, killing)
        else:
            lasting = steady.Plan(layout, minutes=options.minutes, every_s=options.every, sample_s=options.sample)
            report = await steady.run(stand, lasting)
    telling.tell(report)
    _keep(options.json, asdict(report))
    return _HELD if report.holds else _DID_NOT_HOLD


def _keep(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _some(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("it takes more than 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it takes at least 1")
    return number
