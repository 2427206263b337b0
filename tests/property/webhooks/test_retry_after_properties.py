"""Whatever a receiver writes into Retry-After: it is read as meant, and neither hurries nor stalls the schedule."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from hypothesis import example, given
from hypothesis import strategies as st

from shared.webhooks.client import Answered
from shared.webhooks.verdict import hold_s, parse_retry_after, retry_in_s

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ODD = st.sampled_from(
    [
        *["1e308", "-1", "nan", "inf", "1, 2", "+5", "0x10", "\u0661\u0662", "9" * 5000],
        *["Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -1200", "Mon, 01 Jan 0001 00:00:00 +1200"],
        *["Thu, 32 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 +9999", "Thu, 01 Jan 2026 25:61:61 GMT"],
    ]
)


@given(st.integers(0, 9_999_999_999))
def test_a_number_is_seconds(seconds: int) -> None:
    assert parse_retry_after(f" {seconds} ", now=NOW) == seconds


@given(st.integers(-1_000_000, 1_000_000), st.integers(-12, 12))
def test_a_date_is_the_seconds_until_then_in_any_zone_and_never_less_than_none(seconds: int, zone: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    local = at + timedelta(hours=zone)
    written = f"{local:%d %b %Y %H:%M:%S} {'+' if zone >= 0 else '-'}{abs(zone):02}00"

    assert parse_retry_after(format_datetime(at, usegmt=True), now=NOW) == max(0, seconds)
    assert parse_retry_after(written, now=NOW) == max(0, seconds)


@given(st.text(max_size=40) | ODD, st.floats(1, 100_000), st.floats(0.8, 1.2))
@example("Thu, 01 Jan 2026 00:00:00 +9999", 10.0, 1.0)
def test_a_receiver_can_neither_hurry_nor_stall_the_schedule(asked: str, base_s: float, jitter: float) -> None:
    answer = Answered(status=503, retry_after=asked, body=b"", duration_ms=1)

    wait_s = retry_in_s(base_s, answer, now=NOW, jitter=jitter)

    assert base_s * 0.8 <= wait_s <= max(base_s * 2, 3600)
    assert (parse_retry_after(asked, now=NOW) or 0) >= 0
    assert (hold_s(answer, now=NOW) or 1) > 0
