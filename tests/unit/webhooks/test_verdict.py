"""What an answer means for the delivery and its job."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.domain.ids import ConnectionId, DeliveryId, EndpointId
from shared.domain.outcome import Discard, Done, Retry
from shared.domain.webhook import DeliveryStatus, DisableEndpoint, Parcel, RecordAttempt
from shared.webhooks.client import Answered, Exchanged, Failed, FailureKind
from shared.webhooks.verdict import hold_s, parse_retry_after, retry_in_s, settle

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARCEL = Parcel(
    id=DeliveryId(UUID(int=1)),
    endpoint_id=EndpointId(UUID(int=2)),
    connection_id=ConnectionId(UUID(int=3)),
    event_type="message.sent",
    body=b"{}",
    status=DeliveryStatus.PENDING,
    attempts=0,
    url="https://example.com/hook",
    secrets_sealed=b"",
    headers_sealed={},
    is_enabled=True,
)


def answered(status: int, *, retry_after: str | None = None) -> Answered:
    return Answered(status=status, retry_after=retry_after, body=b"body", duration_ms=12)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    outcome = settle(PARCEL, 1, answered(status), retry_in_s=10)

    assert isinstance(outcome, Done)
    [write] = outcome.writes
    assert isinstance(write, RecordAttempt)
    assert (write.after, write.http_status, write.error) == (DeliveryStatus.DELIVERED, status, None)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 422, 425, 429, 500, 503, 599]
)
def test_every_other_answer_is_tried_again_and_given_up_at_the_end(status: int) -> None:
    outcome = settle(PARCEL, 3, answered(status), retry_in_s=90)

    assert isinstance(outcome, Retry)
    assert outcome.delay_s == 90
    [again], [last] = outcome.writes, outcome.last_writes
    assert isinstance(again, RecordAttempt)
    assert isinstance(last, RecordAttempt)
    assert (again.after, again.retry_in_s, again.http_status) == (DeliveryStatus.PENDING, 90, status)
    assert (last.after, last.retry_in_s) == (DeliveryStatus.DEAD, None)
    assert again.response == b"body"


def test_410_ends_the_delivery_and_disables_the_endpoint() -> None:
    outcome = settle(PARCEL, 1, answered(410), retry_in_s=10)

    assert isinstance(outcome, Discard)
    assert outcome.failure is not None
    attempt, disable = outcome.writes
    assert isinstance(attempt, RecordAttempt)
    assert attempt.after is DeliveryStatus.DEAD
    assert isinstance(disable, DisableEndpoint)
    assert (disable.endpoint_id, disable.url) == (PARCEL.endpoint_id, PARCEL.url)


@pytest.mark.parametrize("kind", list(FailureKind))
def test_no_answer_is_tried_again_and_tells_no_address(kind: FailureKind) -> None:
    outcome = settle(PARCEL, 1, Failed(kind=kind, duration_ms=3), retry_in_s=10)

    assert isinstance(outcome, Retry)
    assert outcome.failure.code == kind.value
    assert not any(letter.isdigit() for letter in outcome.failure.detail)
    [write] = outcome.writes
    assert isinstance(write, RecordAttempt)
    assert write.http_status is None


@pytest.mark.parametrize(
    ("asked", "base_s", "expected_s"),
    [
        (None, 10, 8),  # the schedule, jittered
        ("soon", 10, 8),
        ("-5", 10, 8),
        ("9" * 5000, 10, 8),
        ("1", 10, 10),  # never sooner than the schedule
        ("120", 10, 120),
        ("999999", 10, 3600),  # an hour at most
        ("999999", 7200, 14400),  # or twice what is due anyway
        ("Thu, 01 Jan 2026 00:02:00 GMT", 10, 120),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 10, 10),
    ],
)
def test_retry_after_is_honoured_within_bounds(asked: str | None, base_s: float, expected_s: float) -> None:
    assert retry_in_s(base_s, answered(429, retry_after=asked), now=NOW, jitter=0.8) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("exchanged", "expected_s"),
    [
        (answered(429, retry_after="120"), 120),
        (answered(500, retry_after="Thu, 01 Jan 2026 00:01:00 GMT"), 60),
        (answered(429), None),
        (answered(429, retry_after="0"), None),
        (answered(429, retry_after="Wed, 01 Jan 2020 00:00:00 GMT"), None),
        (answered(200, retry_after="120"), None),
        (Failed(kind=FailureKind.TIMEOUT, duration_ms=1), None),
    ],
)
def test_only_a_refusal_that_names_a_time_to_come_holds_the_endpoint(
    exchanged: Exchanged, expected_s: float | None
) -> None:
    assert hold_s(exchanged, now=NOW) == expected_s


def test_without_an_answer_the_schedule_holds() -> None:
    failed = Failed(kind=FailureKind.TIMEOUT, duration_ms=1)

    assert retry_in_s(300, failed, now=NOW, jitter=1.2) == pytest.approx(360)


def test_a_date_without_a_zone_is_read_as_utc() -> None:
    assert parse_retry_after("Thu, 01 Jan 2026 00:01:00 -0000", now=NOW) == 60
