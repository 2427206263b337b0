"""Prometheus' text format, version 0.0.4: families of samples as lines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values fell into each bucket, the last one without a bound. `total` is the sum of the values."""

    bounds: Sequence[float]
    counts: Sequence[float]
    total: float


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its samples: numbers, or histograms for the type `histogram`."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[tuple[Labels, float | Histogram]]


def render(families: Iterable[Family]) -> str:
    """The families as text. A counter's name ends in `_total`, by whoever names it."""
    lines: list[str] = []
    for family in families:
        lines += (f"# HELP {family.name} {_help(family.help)}", f"# TYPE {family.name} {family.type}")
        for labels, value in family.samples:
            if isinstance(value, Histogram):
                lines += _histogram(family.name, labels, value)
            else:
                lines.append(_sample(family.name, labels, value))
    return "".join(f"{line}\n" for line in lines)


def _histogram(name: str, labels: Labels, histogram: Histogram) -> Iterable[str]:
    so_far = 0.0
    for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts, strict=True):
        so_far += count
        yield _sample(f"{name}_bucket", {**labels, "le": _number(bound)}, so_far)
    yield _sample(f"{name}_sum", labels, histogram.total)
    yield _sample(f"{name}_count", labels, so_far)


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
