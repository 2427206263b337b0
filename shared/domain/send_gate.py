"""What lets a connection's messages through at one moment, by its pacing, its quiet hours and WhatsApp's limits."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from shared.domain.message import ParkedReason
from shared.domain.pacing import Pace, Slowed, lower_rate, next_day, slowed_rate
from shared.domain.quiet_hours import QuietHours


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a connection's owner chose. Rates are per minute, 0: no limit; `send_rate` None: the service's."""

    service_rate: int
    send_rate: int | None = None
    pace: Pace | None = None
    quiet_hours: QuietHours | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoFar:
    """What has happened: since when it is paced, what it sent on `day` (of UTC), what WhatsApp's limit left behind."""

    paced_since: datetime | None = None
    day: date | None = None
    sent_today: int = 0
    slowed: Slowed = field(default_factory=Slowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendGate:
    """What its group of jobs is set to. None of `rate_per_minute` and `burst`: the queue's own.

    `look_at` is when this may change by itself; None: never.
    """

    reasons: tuple[ParkedReason, ...] = ()
    rate_per_minute: int | None = None
    burst: int | None = None
    day_cap: int | None = None
    look_at: datetime | None = None


def send_gate(wanted: Wanted, so_far: SoFar, *, now: datetime) -> SendGate:
    """Fit what is wanted to this moment."""
    reasons: list[ParkedReason] = []
    looks: list[datetime] = []
    if wanted.quiet_hours is not None:
        ends_at = wanted.quiet_hours.ends_at(now)
        looks.append(ends_at or wanted.quiet_hours.begins_at(now))
        if ends_at is not None:
            reasons.append(ParkedReason.QUIET_HOURS)
    level = so_far.slowed.level_at(now)
    is_held = so_far.slowed.held_until is not None and now < so_far.slowed.held_until
    if (change := so_far.slowed.next_change(now)) is not None:
        looks.append(change)
    day_cap = None if wanted.pace is None else wanted.pace.cap_on(_days_since(so_far.paced_since, now))
    is_used_up = day_cap is not None and so_far.day == now.astimezone(UTC).date() and so_far.sent_today >= day_cap
    if wanted.pace is not None and wanted.pace.day_cap is not None:
        looks.append(next_day(now))
    if is_held or is_used_up:
        reasons.append(ParkedReason.RATE_LIMITED)
    rate = wanted.send_rate
    if wanted.pace is not None or level:
        usual = wanted.service_rate if rate is None else rate
        rate = slowed_rate(lower_rate(usual, wanted.pace.rate_per_minute if wanted.pace else 0), level)
    return SendGate(
        reasons=tuple(reasons),
        rate_per_minute=rate,
        # Evenly spread: no handful at once after a pause.
        burst=1 if wanted.pace is not None or level else None,
        day_cap=day_cap,
        look_at=min(looks, default=None),
    )


def _days_since(start: datetime | None, now: datetime) -> int:
    return 0 if start is None else (now.astimezone(UTC).date() - start.astimezone(UTC).date()).days
