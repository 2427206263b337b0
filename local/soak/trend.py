"""Says whether a series of samples stays flat: the one rule by which a soak is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

# The first quarter is warm-up: caches fill, pools open, the interpreter and Go's heap find their size.
_WARM_UP: Final = 4
# Then the middle values of the first and of the last third are compared: one odd sample decides nothing.
_PARTS: Final = 3
FEWEST_SAMPLES: Final = 8
RULE: Final = (
    "flat: after the first quarter, the median of the last third is above that of the first third by no more than "
    "5 % or the slack of the measure, whichever is more"
)
_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Trend:
    """`began` and `ended` are the medians that were compared, in the unit of the samples."""

    began: float
    ended: float
    is_flat: bool


def trend(samples: Sequence[float], *, slack: float) -> Trend:
    """Judge samples taken at equal distances. Raises ValueError for fewer than FEWEST_SAMPLES."""
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(f"{len(samples)} samples say nothing about a trend; it takes {FEWEST_SAMPLES}")
    warm = samples[len(samples) // _WARM_UP :]
    third = len(warm) // _PARTS
    began, ended = median(warm[:third]), median(warm[-third:])
    return Trend(began, ended, is_flat=ended - began <= max(slack, began * _SHARE))
