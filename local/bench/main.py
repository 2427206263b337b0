"""`./zh bench`: measure ZapHub and its peers in one run, and say which targets are met."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.bench import plot, report
from local.bench.node_peers import PeerMissing, install_node_peers
from local.bench.procrastinate_peer import install_procrastinate
from local.bench.run import Outcome, measure, steps
from local.bench.scenarios import SCENARIOS, Setup, chosen
from local.bench.stand import Stand, stand
from local.environment import CHECKOUT

_QUICK: Final = 0.05
_DOCS: Final = CHECKOUT / "docs"
_CAPTION: Final = "How many times better than its peers ZapHub is (logarithmic)"
_DESCRIPTION: Final = """\
Measure ZapHub's queue beside BullMQ (on Valkey and on Postgres), Procrastinate and the bare SQL, on servers of its own
that are durable and go away at the end. Every contender runs in turn, round by round; the table shows medians, the
least and the most, and how many times better than each peer ZapHub is. Rates depend on the machine and its neighbours:
compare ratios. Peers need node, npm and uv; what is missing is left out. A whole run takes about 25 minutes.

what can be measured (a name, or its beginning):
"""


def main(arguments: Sequence[str]) -> int:
    """Run the bench; 0: all of ours was measured, whatever the targets; 1: something of ours failed."""
    options = _parser().parse_args(list(arguments))
    try:
        scenarios = chosen([*options.names, *options.only])
    except ValueError as error:
        _parser().error(f"there is no {error}; see --help")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False)
    with stand() as made:
        setup = _setup(made, console, options)
        outcome = Outcome()
        try:
            with _progress(console, steps(scenarios, setup, rounds=options.rounds)) as on_step:
                measure(outcome, scenarios, setup, rounds=options.rounds, on_step=on_step)
        finally:
            # Ctrl-C too: half an hour's figures are not thrown away for the last minute.
            report.show(console, outcome.figures, outcome.failures)
        _write(options, made, outcome)
    return 1 if outcome.ours_failed else 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<18} {one.title}" for name, one in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="zh bench", description=_DESCRIPTION + listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; everything unless given")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="the same, as an option")
    parser.add_argument("--rounds", type=_positive, default=3, metavar="N", help="rounds; 3 (the crash is run once)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the jobs: does it work, not how fast")
    parser.add_argument("--no-peers", action="store_true", help="ZapHub and its floor only; installs nothing")
    parser.add_argument("--json", type=Path, metavar="F", help="write machine, versions, results and targets to F")
    parser.add_argument("--svg", type=Path, metavar="F", help="draw the ratios into F")
    parser.add_argument("--docs", action="store_true", help="put table and plot into docs/performance.md and .svg")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _setup(made: Stand, console: Console, options: argparse.Namespace) -> Setup:
    scale = _QUICK if options.quick else 1.0
    if options.no_peers:
        return Setup(made, scale)
    return Setup(
        made,
        scale,
        node=_installed("BullMQ", install_node_peers, console),
        procrastinate=_installed("Procrastinate", install_procrastinate, console),
    )


def _installed(name: str, install: Callable[[], Path], console: Console) -> Path | None:
    try:
        with console.status(f"installing {name}, once"):
            return install()
    except PeerMissing as error:
        console.print(f"without {name}: {error}", soft_wrap=True)
        return None


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=total)
        done = -1

        def on_step(text: str) -> None:
            nonlocal done
            done += 1
            progress.update(task, completed=done, description=text)
            if not console.is_terminal:
                console.print(f"[{done + 1}/{total}] {text}", markup=False)

        yield on_step


def _write(options: argparse.Namespace, made: Stand, outcome: Outcome) -> None:
    if options.json is not None:
        options.json.write_text(json.dumps(document(made, outcome), indent=2) + "\n", encoding="utf-8")
    drawing = plot.svg(plot.bars(outcome.figures), caption=_CAPTION)
    if options.svg is not None:
        options.svg.write_text(drawing, encoding="utf-8")
    if options.docs:
        page = _DOCS / "performance.md"
        tables = f"{_conditions(made)}\n\n{report.markdown(outcome.figures)}"
        page.write_text(report.into_page(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
        (_DOCS / "performance.svg").write_text(drawing, encoding="utf-8")


def _conditions(made: Stand) -> str:
    servers = made.versions()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Postgres {servers['postgres']}, Valkey {servers['valkey']}, Node {_node_version() or 'not there'}; "
        f"load average of the last 15 minutes {os.getloadavg()[2]:.1f}, the bench's own included."
    )


def document(made: Stand, outcome: Outcome) -> dict[str, Any]:
    """What `--json` writes; in `results` a ratio above 1 says that ZapHub is better."""
    return {
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "load_at_end": list(os.getloadavg()),
        },
        "versions": {
            "python": platform.python_version(),
            "taskiq": version("taskiq"),
            "asyncpg": version("asyncpg"),
            "node": _node_version(),
            **made.versions(),
        },
        "results": outcome.figures.rows(),
        "targets": [
            {"target": target.text, "measured": measured, "met": target.is_met(measured)}
            for target, measured in report.judged(outcome.figures)
        ],
        "failures": outcome.failures,
    }


def _node_version() -> str | None:
    try:
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)  # noqa: S607 - as PATH has it
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip().removeprefix("v")
