"""How fast a connection sends: the pacing its owner chose, and what is left of it after WhatsApp limited the number.

Pure: every function takes the time as an argument. `quiet_hours.py` knows the hours; docs/pacing.md explains it all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

# The first time WhatsApp limits a number, nothing leaves for this long; each time after within the recovery twice as
# long: 1, 2, 4, then 8 minutes.
SLOWED_FOR_S: Final = 60.0
# Each limit halves the rate, to a sixteenth at the least; each quiet spell of this length doubles it again.
MOST_SLOW_LEVELS: Final = 4
RECOVERS_EVERY_S: Final = 300.0
_RECOVERS_EVERY: Final = timedelta(seconds=RECOVERS_EVERY_S)
# What a connection without a limit is slowed from.
_UNLIMITED_PER_MINUTE: Final = 80
# After the first restriction of a chat, the second, …: then every 6 h, until the message expires.
_RESTRICTED_FOR_S: Final = (3600.0, 7200.0, 14400.0, 21600.0)
# Typing shows for 1 s and 40 ms a character, 4 s at most: it holds a worker's slot.
_TYPING_LEAST_S: Final = 1.0
_TYPING_PER_CHARACTER_S: Final = 0.04
_TYPING_MOST_S: Final = 4.0

Seconds = StrictFloat | StrictInt


class Profile(StrEnum):
    NEW = "new"
    WARM = "warm"
    TRUSTED = "trusted"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a profile comes to. `day_growth`: how many more messages than the day before; None: the same every day."""

    rate_per_minute: int
    jitter_s: float = 0.0
    types: bool = False
    min_gap_s: float = 0.0
    day_cap: int | None = None
    day_growth: int = 0
    most_a_day: int = 0

    def cap_on(self, day: int) -> int | None:
        """How many messages may begin on this day, counted from 0."""
        if self.day_cap is None or not self.day_growth:
            return self.day_cap
        return min(self.day_cap + self.day_growth * max(day, 0), self.most_a_day)


PACES: Final[Mapping[Profile, Pace]] = MappingProxyType(
    {
        # 20 messages on the first day, 40 on the second, 60, …, 400 from the twentieth on.
        Profile.NEW: Pace(
            rate_per_minute=3, jitter_s=10, types=True, min_gap_s=60, day_cap=20, day_growth=20, most_a_day=400
        ),
        Profile.WARM: Pace(rate_per_minute=12, jitter_s=4, types=True, min_gap_s=20, day_cap=1000),
        Profile.TRUSTED: Pace(rate_per_minute=40, jitter_s=1, min_gap_s=3),
    }
)
_CUSTOM_RATE: Final = 20


class Pacing(BaseModel):
    """How a connection's messages are spread out. A profile brings all its values; `custom` takes those given here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    profile: Profile = Field(description="`new`, `warm`, `trusted`, or `custom` with the values below")
    rate_per_minute: Annotated[StrictInt, Field(ge=1, le=600)] | None = Field(
        None, description="messages per minute, evenly spread; null: 20"
    )
    jitter_seconds: Annotated[Seconds, Field(ge=0, le=60)] | None = Field(
        None, description="up to so many seconds more between two messages, by chance; null: 0"
    )
    typing: StrictBool | None = Field(None, description="show `typing…` for 1 to 4 s before a message; null: no")
    min_gap_seconds: Annotated[Seconds, Field(ge=0, le=3600)] | None = Field(
        None, description="seconds between two messages to the same chat; null: 0"
    )
    daily_cap: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = Field(
        None, description="messages per day of UTC; null: no limit"
    )

    @model_validator(mode="after")
    def _only_custom_has_values(self) -> Self:
        given = [name for name in type(self).model_fields if name != "profile" and getattr(self, name) is not None]
        if given and self.profile is not Profile.CUSTOM:
            raise ValueError(f"{given[0]} goes with the profile `custom` alone; the others bring their own")
        return self

    def pace(self) -> Pace:
        """What it comes to."""
        if self.profile is not Profile.CUSTOM:
            return PACES[self.profile]
        return Pace(
            rate_per_minute=self.rate_per_minute or _CUSTOM_RATE,
            jitter_s=float(self.jitter_seconds or 0),
            types=bool(self.typing),
            min_gap_s=float(self.min_gap_seconds or 0),
            day_cap=self.daily_cap,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowed:
    """What WhatsApp's limit left behind: nothing leaves before `held_until`, then the rate is halved `level` times."""

    level: int = 0
    held_until: datetime | None = None

    def level_at(self, now: datetime) -> int:
        """How often the rate is halved by now."""
        if not self.level or self.held_until is None:
            return 0
        return max(self.level - max((now - self.held_until) // _RECOVERS_EVERY, 0), 0)

    def next_change(self, now: datetime) -> datetime | None:
        """When the hold ends, or the next halving is taken back; None: it is over."""
        if not self.level_at(now) or self.held_until is None:
            return None
        if now < self.held_until:
            return self.held_until
        return self.held_until + ((now - self.held_until) // _RECOVERS_EVERY + 1) * _RECOVERS_EVERY


def slowed_rate(rate_per_minute: int, level: int) -> int:
    """A rate halved so often, 1 a minute at the least; a connection without a limit (0) starts from 80."""
    if not level:
        return rate_per_minute
    return max((rate_per_minute or _UNLIMITED_PER_MINUTE) >> level, 1)


def lower_rate(one: int, other: int) -> int:
    """The stricter of two rates per minute; 0 is no limit."""
    return min(one or other, other or one)


def restricted_for_s(refusals: int) -> float:
    """How long a chat rests that WhatsApp restricted, after `refusals` times before: 1, 2, 4, then 6 hours."""
    return _RESTRICTED_FOR_S[min(refusals, len(_RESTRICTED_FOR_S) - 1)]


def typing_s(characters: int) -> float:
    """How long to type before a text of so many characters: 1 to 4 seconds."""
    return min(_TYPING_LEAST_S + characters * _TYPING_PER_CHARACTER_S, _TYPING_MOST_S)


def next_day(now: datetime) -> datetime:
    """When the next day of UTC begins."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
