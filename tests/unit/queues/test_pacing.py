"""Pacing and quiet hours by arithmetic: profiles, limits that recover, clocks that change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.message import ParkedReason
from shared.domain.pacing import PACES, Pacing, Profile, Slowed, lower_rate, restricted_for_s, slowed_rate, typing_s
from shared.domain.quiet_hours import QuietHours
from shared.domain.send_gate import SendGate, SoFar, Wanted, send_gate

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
NIGHTS = QuietHours(start="21:00", end="08:00", time_zone="America/Sao_Paulo")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_profile_brings_its_values_and_custom_takes_those_given() -> None:
    assert Pacing(profile=Profile.NEW).pace() == PACES[Profile.NEW]
    custom = Pacing.model_validate({"profile": "custom", "rate_per_minute": 7, "min_gap_seconds": 2.5, "typing": True})
    pace = custom.pace()
    assert (pace.rate_per_minute, pace.min_gap_s, pace.types, pace.jitter_s, pace.day_cap) == (7, 2.5, True, 0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile": "warm", "rate_per_minute": 5},
        {"profile": "fast"},
        {"profile": "custom", "rate_per_minute": 0},
        {"profile": "custom", "jitter_seconds": -1},
        {"profile": "custom", "min_gap_seconds": 3601},
        {"profile": "custom", "min_gap_seconds": float("inf")},
        {"profile": "custom", "daily_cap": True},
        {"profile": "custom", "more": 1},
        {},
    ],
)
def test_a_wrong_pacing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pacing.model_validate(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "24:00", "end": "08:00", "time_zone": "UTC"},
        {"start": "8:00", "end": "09:00", "time_zone": "UTC"},
        {"start": "21:00", "end": "08:00", "time_zone": "America/Nowhere"},
        {"start": "21:00", "end": "08:00", "time_zone": "../../etc/passwd"},
        {"start": "21:00", "end": "08:00", "time_zone": "America"},
        {"start": "21:00", "end": "08:00", "time_zone": "UTC", "days": []},
        {"start": "21:00", "end": "08:00", "time_zone": "UTC", "days": ["mon", "mon"]},
        {"start": "00:00", "end": "00:00", "time_zone": "UTC"},
        {"start": "21:00", "end": "08:00"},
    ],
)
def test_wrong_quiet_hours_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        QuietHours.model_validate(wrong)


def test_quiet_hours_go_over_midnight_by_the_clock_of_their_place() -> None:
    # São Paulo is three hours behind UTC.
    assert NIGHTS.ends_at(at("2026-03-04T23:59:59Z")) is None
    assert NIGHTS.ends_at(at("2026-03-05T00:00:00Z")) == at("2026-03-05T11:00:00Z")
    assert NIGHTS.ends_at(at("2026-03-05T10:59:59Z")) == at("2026-03-05T11:00:00Z")
    assert NIGHTS.ends_at(at("2026-03-05T11:00:00Z")) is None
    assert NIGHTS.begins_at(at("2026-03-05T11:00:00Z")) == at("2026-03-06T00:00:00Z")


def test_the_days_are_those_on_which_quiet_hours_begin_and_whole_days_are_joined() -> None:
    fridays = QuietHours.model_validate({"start": "22:00", "end": "06:00", "time_zone": "UTC", "days": ["fri"]})
    weekend = QuietHours.model_validate({"start": "00:00", "end": "00:00", "time_zone": "UTC", "days": ["sat", "sun"]})

    assert fridays.ends_at(at("2026-03-07T05:00:00Z")) == at("2026-03-07T06:00:00Z")  # a Saturday morning
    assert fridays.ends_at(at("2026-03-06T05:00:00Z")) is None  # a Friday morning
    assert weekend.ends_at(at("2026-03-07T09:00:00Z")) == at("2026-03-09T00:00:00Z")
    assert weekend.begins_at(at("2026-03-09T00:00:00Z")) == at("2026-03-14T00:00:00Z")


@pytest.mark.parametrize(
    ("hours", "quiet", "loud"),
    [
        # New York, 8 March 2026: the clock goes from 02:00 to 03:00 at 07:00 UTC. An end at 02:30 is the later reading.
        (("01:00", "02:30"), "2026-03-08T07:29:00Z", "2026-03-08T07:30:00Z"),
        # A start at 02:30 is the earlier reading, 06:30 UTC.
        (("02:30", "04:00"), "2026-03-08T06:30:00Z", "2026-03-08T06:29:00Z"),
        # 1 November 2026: from 02:00 back to 01:00 at 06:00 UTC. 01:30 comes twice: it ends the second time,
        (("00:00", "01:30"), "2026-11-01T06:29:00Z", "2026-11-01T06:30:00Z"),
        # and begins the first time.
        (("01:30", "03:00"), "2026-11-01T05:30:00Z", "2026-11-01T05:29:00Z"),
    ],
)
def test_where_clocks_change_it_is_quiet_a_little_longer(hours: tuple[str, str], quiet: str, loud: str) -> None:
    night = QuietHours(start=hours[0], end=hours[1], time_zone="America/New_York")

    assert night.ends_at(at(quiet)) is not None
    assert night.ends_at(at(loud)) is None


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis adds it
    st.sampled_from(
        ["America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
    ),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_quiet_hours_end_and_begin_where_they_say(now: datetime, zone: str, start: int, end: int) -> None:
    days = ["mon", "tue", "thu", "fri", "sun"]
    text = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (start, end)]
    hours = QuietHours.model_validate({"start": text[0], "end": text[1], "time_zone": zone, "days": days})

    ends = hours.ends_at(now)
    change = ends or hours.begins_at(now)

    assert change > now
    assert (hours.ends_at(change) is None) == (ends is not None)
    assert (hours.ends_at(change - timedelta(milliseconds=1)) is None) == (ends is None)
    shown = change.astimezone(ZoneInfo(zone))
    assert (
        ends is not None
        or shown.minute == start % 60
        or shown.utcoffset() != now.astimezone(ZoneInfo(zone)).utcoffset()
    )


def test_a_limit_of_whatsapp_holds_then_halves_and_recovers() -> None:
    slowed = Slowed(level=2, held_until=NOON)

    assert slowed.next_change(NOON - timedelta(seconds=1)) == NOON
    assert [slowed.level_at(NOON + timedelta(minutes=m)) for m in (-1, 0, 4, 5, 9, 10, 60)] == [2, 2, 2, 1, 1, 0, 0]
    assert slowed.next_change(NOON) == NOON + timedelta(minutes=5)
    assert slowed.next_change(NOON + timedelta(minutes=5)) == NOON + timedelta(minutes=10)
    assert slowed.next_change(NOON + timedelta(minutes=10)) is None
    assert [slowed_rate(80, level) for level in range(5)] == [80, 40, 20, 10, 5]
    assert (slowed_rate(3, 4), slowed_rate(0, 0), slowed_rate(0, 1)) == (1, 0, 40)


def test_the_stricter_of_two_rates_holds_and_zero_is_none() -> None:
    assert [lower_rate(80, 12), lower_rate(5, 12), lower_rate(0, 12), lower_rate(80, 0), lower_rate(0, 0)] == [
        12,
        5,
        12,
        80,
        0,
    ]


def test_typing_and_restrictions_are_bounded() -> None:
    assert [typing_s(0), typing_s(50), typing_s(65_536)] == [1.0, 3.0, 4.0]
    assert [restricted_for_s(n) / 3600 for n in range(6)] == [1, 2, 4, 6, 6, 6]


def test_without_a_choice_nothing_is_changed_and_nothing_is_looked_at_again() -> None:
    assert send_gate(Wanted(service_rate=80), SoFar(), now=NOON) == SendGate()
    assert send_gate(Wanted(service_rate=80, send_rate=0), SoFar(), now=NOON) == SendGate(rate_per_minute=0)


def test_a_new_number_may_send_more_each_day_and_waits_for_the_next_when_it_has() -> None:
    wanted = Wanted(service_rate=80, pace=PACES[Profile.NEW])
    midnight = datetime(2026, 3, 5, tzinfo=UTC)

    def on(day: int, sent: int) -> SendGate:
        now = NOON + timedelta(days=day)
        return send_gate(wanted, SoFar(paced_since=NOON, day=now.date(), sent_today=sent), now=now)

    assert [on(day, 0).day_cap for day in (0, 1, 2, 19, 20, 365)] == [20, 40, 60, 400, 400, 400]
    assert (on(0, 19).reasons, on(0, 19).rate_per_minute, on(0, 19).burst) == ((), 3, 1)
    assert (on(0, 20).reasons, on(0, 20).look_at) == ((ParkedReason.RATE_LIMITED,), midnight)
    assert on(1, 20).reasons == ()


def test_quiet_hours_and_a_limit_hold_for_reasons_of_their_own_and_the_next_change_is_the_first() -> None:
    wanted = Wanted(service_rate=80, quiet_hours=NIGHTS)
    held = SoFar(slowed=Slowed(level=1, held_until=at("2026-03-05T00:10:00Z")))
    gate = send_gate(wanted, held, now=at("2026-03-05T00:05:00Z"))

    assert gate.reasons == (ParkedReason.QUIET_HOURS, ParkedReason.RATE_LIMITED)
    assert (gate.rate_per_minute, gate.burst, gate.look_at) == (40, 1, at("2026-03-05T00:10:00Z"))
    later = send_gate(wanted, held, now=at("2026-03-05T00:15:00Z"))
    assert later == SendGate(reasons=(ParkedReason.QUIET_HOURS,), look_at=at("2026-03-05T11:00:00Z"))
