"""Quiet hours: when a connection sends nothing, by the clock of a place. Pure: the time is an argument."""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

_WEEK: Final = 7


class Day(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_DAYS: Final = tuple(Day)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _time_zone(name: str) -> str:
    try:
        _zone(name)
    except (ValueError, OSError, KeyError):  # a folder's name, a path, a name that no zone has
        raise ValueError("this is no IANA time zone, such as America/Sao_Paulo or UTC") from None
    return name


Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class QuietHours(BaseModel):
    """From `start` to `end` of a place's clock nothing is sent; an `end` that is not later is the next day's."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    start: Clock = Field(description="hours and minutes, 00:00 to 23:59", examples=["21:00"])
    end: Clock = Field(description="the same as `start`: a whole day", examples=["08:00"])
    time_zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(_time_zone)] = Field(
        description="IANA name of the place whose clock counts", examples=["America/Sao_Paulo"]
    )
    days: tuple[Day, ...] = Field(
        _DAYS, min_length=1, max_length=_WEEK, description="the days on which they begin; left out: every day"
    )

    @model_validator(mode="after")
    def _leaves_time_to_send(self) -> Self:
        if len(set(self.days)) != len(self.days):
            raise ValueError("name each day once")
        if self.start == self.end and len(self.days) == _WEEK:
            raise ValueError("these hours never end: make `end` differ from `start`, or leave out a day")
        return self

    def ends_at(self, now: datetime) -> datetime | None:
        """When the quiet hours of this moment end; None: it is not quiet. Hours that follow one another are one."""
        ends = None
        at = now
        # A week of whole days but one is the longest.
        for _ in range(_WEEK + 1):
            until = max((end for start, end in self._around(at) if start <= at < end), default=None)
            if until is None:
                break
            ends = at = until
        return ends

    def begins_at(self, now: datetime) -> datetime:
        """When it will next become quiet, after `now`."""
        day = self._day(now)
        starts = (self._hours(day + timedelta(days=ahead)) for ahead in range(-1, _WEEK + 2))
        return min(hours[0] for hours in starts if hours is not None and hours[0] > now)

    def _around(self, at: datetime) -> list[tuple[datetime, datetime]]:
        """The quiet hours that may hold this moment."""
        day = self._day(at)
        found = (self._hours(day + timedelta(days=ahead)) for ahead in (-2, -1, 0, 1))
        return [hours for hours in found if hours is not None]

    def _day(self, at: datetime) -> date:
        return at.astimezone(_zone(self.time_zone)).date()

    def _hours(self, day: date) -> tuple[datetime, datetime] | None:
        """The quiet hours that begin on this day, in UTC."""
        if _DAYS[day.weekday()] not in self.days:
            return None
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        last = day if end > start else day + timedelta(days=1)
        return min(self._readings(day, start)), max(self._readings(last, end))

    def _readings(self, day: date, clock: time) -> tuple[datetime, datetime]:
        """What a clock's time may mean. Where clocks change, a time comes twice or never: then it is longer quiet."""
        shown = datetime.combine(day, clock, tzinfo=_zone(self.time_zone))
        return shown.replace(fold=0).astimezone(UTC), shown.replace(fold=1).astimezone(UTC)
