"""The plot of docs/performance.md: one bar per ratio, drawn as plain SVG."""

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from local.bench.figures import METRICS, OURS, Figures

_WIDTH: Final = 960
_NAMES: Final = 450  # they end here
_LEFT, _RIGHT = 510, 900  # the scale, with room for the numbers beside it
_ROW: Final = 24
_TOP: Final = 46
_LOOK: Final = 'role="img" font-family="system-ui, sans-serif" font-size="12"'
_BETTER, _WORSE, _TEXT, _LINE = "#1a7f5a", "#b3541e", "#57606a", "#8c959f"
_DRAWN: Final = (
    *("drain_c10", "drain_c100", "drain_groups_c100", "cpu_c10", "cpu_c100", "enqueue_50_producers"),
    *("idle_latency_p50", "idle_latency_p99", "fairness", "crash_recovery", "end_to_end", "cpu_end_to_end", "send_202"),
)
# Not beside the peers: our own floor and our own other log level.
_NOT_PEERS: Final = frozenset({OURS, "floor", "zaphub-log-warning"})
_TICKS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 25.0, 50.0, 100.0)


def bars(figures: Figures) -> list[tuple[str, float]]:
    """What is drawn: "metric against peer" and how many times better than the peer ZapHub is."""
    return [
        (f"{METRICS[metric].title} · {peer}", ratio)
        for metric in _DRAWN
        for peer in figures.contenders(metric)
        if peer not in _NOT_PEERS and (ratio := figures.ratio(metric, peer)) is not None
    ]


def svg(drawn: Sequence[tuple[str, float]], *, caption: str) -> str:
    """A bar chart on a logarithmic scale around 1; readable on a light and on a dark page."""
    height = _TOP + _ROW * len(drawn) + 30
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_LOOK}>',
            f"<title>{escape(caption)}</title>",
            f'<text x="10" y="18" fill="{_TEXT}" font-weight="600">{escape(caption)}</text>',
            *_axis(drawn, height),
            *_rows(drawn),
            "</svg>",
            "",
        ]
    )


def _axis(drawn: Sequence[tuple[str, float]], height: int) -> Iterator[str]:
    for tick in _TICKS:
        x = _x(tick, drawn)
        if not _LEFT <= x <= _RIGHT:
            continue
        dash = "" if tick == 1 else ' stroke-dasharray="2 4"'
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{height - 24}" stroke="{_LINE}"{dash}/>'
        yield f'<text x="{x}" y="{height - 10}" fill="{_TEXT}" text-anchor="middle">{tick:g}x</text>'


def _rows(drawn: Sequence[tuple[str, float]]) -> Iterator[str]:
    one = _x(1.0, drawn)
    for number, (name, ratio) in enumerate(drawn):
        y = _TOP + _ROW * number
        end = _x(ratio, drawn)
        left, width = min(one, end), max(1.0, abs(end - one))
        color = _BETTER if ratio >= 1 else _WORSE
        at, anchor = (end + 4, "start") if ratio >= 1 else (end - 4, "end")
        yield f'<text x="{_NAMES}" y="{y + 14}" fill="{_TEXT}" text-anchor="end" font-size="11">{escape(name)}</text>'
        yield f'<rect x="{left:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{color}"/>'
        yield f'<text x="{at:.1f}" y="{y + 14}" fill="{color}" text-anchor="{anchor}">{ratio:.2g}x</text>'


def _x(ratio: float, drawn: Sequence[tuple[str, float]]) -> float:
    """Where a ratio lies: the smallest and the greatest of what is drawn are at the ends."""
    ratios = [max(one, 0.01) for _, one in drawn] + [0.5, 2.0]
    low, high = math.log(min(ratios)), math.log(max(ratios))
    share = (math.log(max(ratio, 0.01)) - low) / (high - low)
    return round(_LEFT + share * (_RIGHT - _LEFT), 1)
