"""What a person sees of the demo: lines, the QR code, bars that fill, and the table at the end."""

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import segno
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from local.demo.tally import Tally
from local.demo.tour import Visit

_BARS = ("accepted", "on the wire", "delivered", "read", "received", "webhooks")
# Each message makes a webhook when it is queued, sent, delivered and read.
_WEBHOOKS_PER_MESSAGE = 4
_MOST_COMPLAINTS = 20
_MARKS = {True: Text("yes", "bold green"), False: Text("no", "bold red"), None: Text("-", "dim")}


class Screen:
    """Writes to standard output; without a terminal the lines and the table only."""

    def __init__(self) -> None:
        """Count the seconds from now."""
        self.console = Console(highlight=False)
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def say(self, line: str, *, good: bool | None = None) -> None:
        """Write one line with the time before it; green when it is good, red when it is not."""
        style = {None: "", True: "green", False: "bold red"}[good]
        text = Text.assemble((f"{time.monotonic() - self._began:6.1f} s  ", "dim"), (line, style))
        self.console.print(text, soft_wrap=True)

    def qr(self, code: str) -> None:
        """Draw the code with half blocks."""
        drawing = io.StringIO()
        segno.make(code, error="l").terminal(out=drawing, border=2, compact=True)
        self.console.print(Text.from_ansi(drawing.getvalue()), soft_wrap=True)

    @contextmanager
    def progress(self, *, accepted: int, received: int) -> Iterator[None]:
        """Show the bars while the block runs."""
        columns: tuple[Any, ...] = (TextColumn("{task.description:>12}"), BarColumn(40), MofNCompleteColumn())
        totals = dict.fromkeys(_BARS, accepted)
        totals |= {"received": received, "webhooks": _WEBHOOKS_PER_MESSAGE * accepted + received}
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            self._progress = progress
            self._bars = {name: progress.add_task(name, total=totals[name]) for name in _BARS}
            try:
                yield
            finally:
                self._progress = None

    def show(self, found: Tally) -> None:
        """Move the bars."""
        if self._progress is None:
            return
        for name, count in zip(_BARS, _counts(found), strict=True):
            task = self._progress.tasks[self._bars[name]]
            # How many webhooks there will be depends on the connection's own events too.
            total = max(count, 1) if name == "webhooks" and found.holds else max(task.total or 0, count)
            self._progress.update(self._bars[name], completed=count, total=total)

    def table(self, found: Tally) -> None:
        """Write the table, and what does not hold."""
        # Downwards: eight columns do not fit a terminal of 80.
        table = Table("what happened", box=box.SIMPLE_HEAD)
        table.add_column("count", justify="right")
        for name, count in zip(_BARS, _counts(found), strict=True):
            table.add_row(name, str(count))
        for name, count in (("lost", found.lost), ("doubled", found.doubled)):
            table.add_row(name, Text(str(count), "bold red" if count else "bold green"))
        self.console.print(table)
        for complaint in found.complaints[:_MOST_COMPLAINTS]:
            self.say(complaint, good=False)
        if (more := len(found.complaints) - _MOST_COMPLAINTS) > 0:
            self.say(f"and {more} more", good=False)

    def tour(self, visits: Sequence[Visit]) -> None:
        """Write what was sent and received of each kind, and what did not come out so."""
        table = Table("every type", box=box.SIMPLE_HEAD)
        for way in ("sent", "received"):
            table.add_column(way, justify="center")
        for one in visits:
            table.add_row(one.name, *(_MARKS[way] for way in (one.sent, one.received)))
        self.console.print(table)
        for complaint in [complaint for one in visits for complaint in one.complaints]:
            self.say(complaint, good=False)


def _counts(found: Tally) -> tuple[int, ...]:
    return (found.accepted, found.on_the_wire, found.delivered, found.read, found.received, found.webhooks)
