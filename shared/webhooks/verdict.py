"""What a receiver's answer, or its silence, means for the delivery, its job and its endpoint."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, assert_never

from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.domain.webhook import DeliveryStatus, DisableEndpoint, Parcel, RecordAttempt
from shared.webhooks.client import Answered, Exchanged, Failed, FailureKind

_RETRY_AFTER_MAX_S: Final = 3600.0  # a receiver may ask for an hour, or twice the delay that is due anyway
_RETRY_AFTER_DIGITS: Final = 10

_SENTENCES: Final[Mapping[FailureKind, str]] = {
    FailureKind.TARGET_FORBIDDEN: "the URL leads to an address that webhooks may not reach",
    FailureKind.NAME_UNRESOLVED: "the host's name does not resolve",
    FailureKind.UNREACHABLE: "the host does not accept a connection",
    FailureKind.TLS: "no secure connection; check the certificate",
    FailureKind.TIMEOUT: "no answer in time",
    FailureKind.CONNECTION_LOST: "the connection broke before the answer",
    FailureKind.BAD_ANSWER: "the host gave no whole HTTP answer",
}


def retry_in_s(base_s: float, exchanged: Exchanged, *, now: datetime, jitter: float) -> float:
    """Seconds until the next try: the schedule's, times `jitter` (0.8 to 1.2), or what the receiver asks for.

    `Retry-After` is honoured from the schedule's delay up to an hour or twice that delay, whichever is more.
    """
    asked_s = parse_retry_after(exchanged.retry_after, now=now) if isinstance(exchanged, Answered) else None
    if asked_s is None:
        return base_s * jitter
    return min(max(asked_s, base_s), max(2 * base_s, _RETRY_AFTER_MAX_S))


def hold_s(exchanged: Exchanged, *, now: datetime) -> float | None:
    """Seconds in which the receiver wants nothing at all; None when it says nothing of the kind, or took it."""
    if failure_of(exchanged) is None or not isinstance(exchanged, Answered):
        return None
    return parse_retry_after(exchanged.retry_after, now=now) or None


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds, from a number or an HTTP date; None when there is none or it is neither. Never negative."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _RETRY_AFTER_DIGITS:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def settle(
    parcel: Parcel, attempt: int, exchanged: Exchanged, *, retry_in_s: float, hold_s: float | None = None
) -> Outcome:
    """What the exchange means: delivered, given up because the receiver is gone for good, or to be tried again."""
    failure = failure_of(exchanged)

    def record(after: DeliveryStatus, *, due_in_s: float | None = None) -> RecordAttempt:
        return RecordAttempt(
            delivery_id=parcel.id,
            attempt=attempt,
            after=after,
            duration_ms=exchanged.duration_ms,
            http_status=exchanged.status if isinstance(exchanged, Answered) else None,
            error=None if failure is None else f"{failure.code}: {failure.detail}",
            response=exchanged.body if isinstance(exchanged, Answered) else None,
            retry_in_s=due_in_s,
            hold_s=hold_s,
        )

    if failure is None:
        return Done(result={"attempt": attempt}, writes=(record(DeliveryStatus.DELIVERED),))
    if not failure.retryable:
        disable = DisableEndpoint(
            endpoint_id=parcel.endpoint_id, connection_id=parcel.connection_id, url=parcel.url, reason=failure.detail
        )
        return Discard(reason=failure.detail, failure=failure, writes=(record(DeliveryStatus.DEAD), disable))
    return Retry(
        failure=failure,
        delay_s=retry_in_s,
        writes=(record(DeliveryStatus.PENDING, due_in_s=retry_in_s),),
        last_writes=(record(DeliveryStatus.DEAD),),
    )


def failure_of(exchanged: Exchanged) -> Failure | None:
    """Why this was no delivery; None: it was one. What is not retryable ends the endpoint too."""
    match exchanged:
        case Failed(kind=kind):
            return Failure(code=kind.value, detail=_SENTENCES[kind])
        case Answered(status=status) if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        case Answered(status=HTTPStatus.GONE):
            return Failure(code="WEBHOOK_GONE", detail="the receiver answered 410 Gone", retryable=False)
        case Answered(status=status) if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            detail = f"the receiver answered {status}; redirects are not followed"
            return Failure(code="WEBHOOK_REDIRECTED", detail=detail)
        case Answered(status=status):
            return Failure(code="WEBHOOK_REFUSED", detail=f"the receiver answered {status}")
        case _:
            assert_never(exchanged)
