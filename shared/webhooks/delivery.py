"""Send one delivery once: read it fresh, sign it, POST it, and say what that means for its job."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from shared.db import webhook_deliveries as deliveries
from shared.db.pool import AWAY, Pool
from shared.domain.errors import Misconfigured
from shared.domain.ids import DeliveryId
from shared.domain.jobs import Job
from shared.domain.outcome import Discard, Done, Failure, Outcome, Snooze
from shared.domain.webhook import DeliveryStatus, EndDelivery, Parcel, PayloadFormat, PostponeDelivery
from shared.domain.writes import Write
from shared.egress.target import Rule
from shared.failpoints import reach
from shared.sealing import Sealer
from shared.settings import Settings
from shared.webhooks.client import Answered, Exchanged, Failed, SafeClient
from shared.webhooks.endpoints import open_headers, open_keyring
from shared.webhooks.headers import merge
from shared.webhooks.signing import hub_signature, sign
from shared.webhooks.verdict import failure_of, hold_s, retry_in_s, settle

log = structlog.get_logger()

_USER_AGENT: Final = "ZapHub (+webhooks)"
_JITTER: Final = 0.2
_POSTPONE_S: Final = 10.0
_POSTPONE_MAX_S: Final = 300.0
# A name that no name server will ever tell, or a network that is not there at all, is a failed try after a day.
_OUR_OUTAGE_S: Final = 86_400.0


class Client(Protocol):
    """What a delivery needs of shared.webhooks.client.SafeClient."""

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Exchanged: ...


def _now() -> datetime:
    return datetime.now(UTC)


def _jitter() -> float:
    return random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads retries, guards nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """What every delivery of a process shares. `delay_s` is the queue's schedule: seconds after try number n failed."""

    pool: Pool
    client: Client
    sealer: Sealer
    delay_s: Callable[[int], float]
    now: Callable[[], datetime] = _now
    jitter: Callable[[], float] = _jitter

    async def deliver(self, job: Job, delivery_id: DeliveryId) -> Outcome:
        """Send the delivery of a `deliver-webhook` job, to the URL and with the secrets that hold now.

        Twice is possible (a worker that dies after the POST): body and `webhook-id` are the same, so receivers can
        tell. When it cannot be sent for a reason of our own (Postgres, the secret key, the network) it waits, and that
        is no try.
        """
        try:
            async with self.pool.acquire() as connection:
                parcel = await deliveries.parcel(connection, delivery_id)
        except AWAY as error:
            return self._postponed(job, delivery_id, code="UNAVAILABLE", detail="Postgres did not answer", error=error)
        if parcel is None:
            return Discard(reason="the delivery is gone")
        if not job.data.get("again", False):
            if parcel.status is DeliveryStatus.DELIVERED:
                return Done(result={"note": "delivered before"})
            if parcel.status is DeliveryStatus.CANCELED:
                return Discard(reason="the delivery is canceled")
        if not parcel.is_enabled:
            reason = "the endpoint is disabled or deleted"
            canceled = EndDelivery(delivery_id=parcel.id, after=DeliveryStatus.CANCELED, reason=reason)
            return Discard(reason=reason, writes=(canceled,))
        # A redelivery is a new job that counts from 1; a try that died with its worker is counted by the job alone.
        attempt = max(job.attempt, parcel.attempts + 1)
        try:
            headers = headers_of(parcel, attempt=attempt, at=self.now(), sealer=self.sealer)
        except Misconfigured as error:
            return self._postponed(job, delivery_id, code=error.public_code, detail=error.detail, error=error)
        reach("webhook_before_post")
        exchanged = await self.client.post(parcel.url, headers=headers, body=parcel.body)
        reach("webhook_after_post")
        _log(parcel, attempt, exchanged)
        if isinstance(exchanged, Failed) and exchanged.is_ours and self._age_s(job) < _OUR_OUTAGE_S:
            detail = "not tried: ZapHub's own network or name server did not work"
            return self._postponed(job, delivery_id, code=exchanged.kind.value, detail=detail)
        now = self.now()
        # A try that died with its worker is one of the twelve, but moves the schedule no further.
        base_s = self.delay_s(max(1, job.attempt - job.stalled))
        wait_s = retry_in_s(base_s, exchanged, now=now, jitter=self.jitter())
        return settle(parcel, attempt, exchanged, retry_in_s=wait_s, hold_s=hold_s(exchanged, now=now))

    def _postponed(
        self, job: Job, delivery_id: DeliveryId, *, code: str, detail: str, error: Exception | None = None
    ) -> Snooze:
        """Look again later, without a try: in 10 s, and after a longer time in a quarter of it, up to 300 s."""
        delay_s = min(max(self._age_s(job) / 4, _POSTPONE_S), _POSTPONE_MAX_S) * self.jitter()
        log.warning("webhook_postponed", delivery_id=str(delivery_id), code=code, error=error and type(error).__name__)
        postpone = PostponeDelivery(delivery_id=delivery_id, reason=f"{code}: {detail}", retry_in_s=delay_s)
        return Snooze(delay_s=delay_s, writes=(postpone,))

    def _age_s(self, job: Job) -> float:
        return (self.now() - job.created_at).total_seconds()


@asynccontextmanager
async def open_courier(settings: Settings, pool: Pool, *, delay_s: Callable[[int], float]) -> AsyncIterator[Courier]:
    """Return the process's courier; its connections to receivers are closed at the end."""
    rule = Rule(allow=tuple(settings.webhook_allow_networks))
    async with SafeClient(rule, timeout_s=settings.webhook_timeout_s) as client:
        yield Courier(pool=pool, client=client, sealer=Sealer(settings.secret_key), delay_s=delay_s)


def on_ended(data: Mapping[str, Any], failure: Failure) -> tuple[Write, ...]:
    """What a delivery becomes when its job ends without its handler's word: dead, and a replay may send it."""
    try:
        delivery_id = DeliveryId(UUID(data["deliveryId"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()  # a fan-out: its events still wait, and the sweep finds them
    reason = f"{failure.code}: {failure.detail}"
    return (EndDelivery(delivery_id=delivery_id, after=DeliveryStatus.DEAD, reason=reason),)


def headers_of(parcel: Parcel, *, attempt: int, at: datetime, sealer: Sealer) -> dict[str, str]:
    """All headers of one attempt: the endpoint's own, ours over them, and the signature for this moment."""
    secrets = open_keyring(sealer, parcel.endpoint_id, parcel.secrets_sealed).valid(at)
    ours = {
        "Content-Type": "application/json",
        "User-Agent": _USER_AGENT,
        "X-ZapHub-Event": parcel.event_type,
        "X-ZapHub-Delivery": str(parcel.id),
        "X-ZapHub-Attempt": str(attempt),
        **({} if parcel.connection_id is None else {"X-ZapHub-Session": str(parcel.connection_id)}),
        **sign(secrets, webhook_id=str(parcel.id), at=at, body=parcel.body),
        **_hub_signature(parcel, secrets[0]),
    }
    return merge(open_headers(sealer, parcel.endpoint_id, parcel.headers_sealed), ours)


def _hub_signature(parcel: Parcel, newest: str) -> dict[str, str]:
    """The header that clients of the Cloud API verify; a rotation changes it at once, as it holds one signature."""
    if parcel.payload_format is not PayloadFormat.CLOUD_API:
        return {}
    return {"X-Hub-Signature-256": hub_signature(newest, body=parcel.body)}


def _log(parcel: Parcel, attempt: int, exchanged: Exchanged) -> None:
    failure = failure_of(exchanged)
    log.info(
        "webhook_delivered" if failure is None else "webhook_failed",
        delivery_id=str(parcel.id),
        endpoint_id=str(parcel.endpoint_id),
        attempt=attempt,
        status=exchanged.status if isinstance(exchanged, Answered) else None,
        code=failure and failure.code,
        duration_ms=exchanged.duration_ms,
    )
