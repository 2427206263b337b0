"""What a person reads of a run: a table of the figures and one of the targets; and the same as Markdown for docs."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.bench.figures import METRICS, OURS, TARGETS, Figure, Figures, LatencyTarget, Target

_LARGE: Final = 100
_SMALL: Final = 1
_BEGIN: Final = "<!-- measured: begin -->"
_END: Final = "<!-- measured: end -->"


def show(console: Console, figures: Figures, failures: Mapping[str, str]) -> None:
    """Write both tables, and what failed."""
    for metric in figures.metrics():
        title = f"{METRICS[metric].title}, {METRICS[metric].unit}"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("", min_width=20)
        table.add_column("median (least to most)", justify="right", min_width=28)
        table.add_column("ZapHub is", justify="right", min_width=9)
        for contender, figure, ratio in _lines(figures, metric):
            table.add_row(contender, spread(figure), "" if ratio is None else f"{ratio:.2f}x")
        console.print(table)
    targets = Table(box=box.SIMPLE_HEAD)
    for column in ("target", "measured", ""):
        targets.add_column(column)
    for target, measured in judged(figures):
        is_met = target.is_met(measured)
        targets.add_row(
            target.text, told(target, measured), Text("met" if is_met else "missed", "green" if is_met else "bold red")
        )
    if targets.row_count:
        console.print(targets)
    for name, why in failures.items():
        console.print(Text(f"not measured: {name}: {why}", "bold red"), soft_wrap=True)


def markdown(figures: Figures) -> str:
    """Both tables for docs/performance.md."""
    lines = ["| measured | of | median (least to most) | ZapHub is |", "|---|---|---|---|"]
    for metric in figures.metrics():
        title = f"{METRICS[metric].title}, {METRICS[metric].unit}"
        for contender, figure, ratio in _lines(figures, metric):
            lines.append(f"| {title} | {contender} | {spread(figure)} | {'' if ratio is None else f'{ratio:.2f}x'} |")
            title = ""
    lines += ["", "| target | measured | |", "|---|---|---|"]
    for target, measured in judged(figures):
        word = "met" if target.is_met(measured) else "**missed**"
        lines.append(f"| {target.text} | {told(target, measured)} | {word} |")
    return "\n".join(lines) + "\n"


def into_page(page: str, tables: str) -> str:
    """The page with the text between its two marks replaced."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{tables}{_END}{after}"


def judged(figures: Figures) -> list[tuple[Target, float]]:
    """The targets that were measured, with what was."""
    found = ((target, target.measured(figures)) for target in TARGETS)
    return [(target, measured) for target, measured in found if measured is not None]


def told(target: Target, measured: float) -> str:
    """What was measured for a target, in its unit."""
    if isinstance(target, LatencyTarget):
        return f"{measured:+.1f} ms"
    return f"{measured:.2f}x" if target.peer is not None else f"{number(measured)} {METRICS[target.metric].unit}"


def spread(figure: Figure) -> str:
    """The median, and where the rounds lay when there were more than one."""
    if len(figure.values) == 1:
        return number(figure.middle)
    return f"{number(figure.middle)} ({number(figure.least)} to {number(figure.most)})"


def number(value: float) -> str:
    """Three digits that count, no more: what is behind them is noise."""
    if value == int(value) or abs(value) >= _LARGE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _SMALL else f"{value:.3f}"


def _lines(figures: Figures, metric: str) -> Iterator[tuple[str, Figure, float | None]]:
    for contender in figures.contenders(metric):
        figure = figures.get(metric, contender)
        if figure is not None:
            yield contender, figure, None if contender == OURS else figures.ratio(metric, contender)
