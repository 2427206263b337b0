"""The one table of queue policies: priority, concurrency, retries, leases, groups, retention.

The ledger's `queues` rows, the drain, `serverless.yml` and Terraform take their numbers from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.domain.jobs import QueueName as Q

# A worker that dies is noticed this long after its last heartbeat: short, so that its jobs run again within 6 s.
WORKER_LEASE_S: Final = 5.0
HEARTBEAT_S: Final = 1.5  # three chances per lease
# A Lambda cannot renew. This much longer than its timeout, a lease never lapses under an invocation that still runs.
LAMBDA_LEASE_MARGIN_S: Final = 15.0


class Runtime(StrEnum):
    """Where a drain runs."""

    WORKER = "worker"
    LAMBDA = "lambda"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """What holds for every job of a queue unless the job or its group says otherwise."""

    id: int  # in the ledger's rows; never changed
    priority: int  # greater is more urgent
    concurrency: int  # jobs at once in one worker
    retry_delays_s: tuple[float, ...]  # after the first try, the second, …; then the dead letters
    lambda_timeout_s: int
    timeout_s: float  # a try that takes longer is stopped; more than its handler's own time limits together
    lends_at_most: int = 0  # jobs that run beside these because they wait for a slow receiver; see slots.py
    group_cap: int = 1  # jobs of one group at once, over all workers
    rate_per_minute: int = 0  # per group; 0: no limit
    burst: int = 1  # jobs a group may start at once after a quiet time
    stalled_limit: int = 3  # so many times a dying worker may take a job with it; the next time is a dead letter
    keep_completed: int = 100  # the newest, however old; ages are settings, RETENTION_COMPLETED_JOBS_S and …FAILED…

    @property
    def max_attempts(self) -> int:
        return len(self.retry_delays_s) + 1

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after try number `attempt` (from 1) failed; past the last delay, that one again."""
        if not self.retry_delays_s:
            return 0.0
        return self.retry_delays_s[min(attempt, len(self.retry_delays_s)) - 1]

    def lease_s(self, runtime: Runtime) -> float:
        """Seconds a claim holds without a heartbeat."""
        if runtime is Runtime.LAMBDA:
            return self.lambda_timeout_s + LAMBDA_LEASE_MARGIN_S
        return WORKER_LEASE_S


POLICIES: Final[Mapping[Q, QueuePolicy]] = MappingProxyType(
    {
        Q.SESSION_INIT: QueuePolicy(
            id=1, priority=10, concurrency=3, retry_delays_s=(5, 15, 45), lambda_timeout_s=60, timeout_s=120
        ),
        Q.SESSION_CLOSE: QueuePolicy(
            id=2, priority=8, concurrency=3, retry_delays_s=(2, 6), lambda_timeout_s=60, timeout_s=180
        ),
        Q.MESSAGE_RECEIVE: QueuePolicy(
            id=3, priority=7, concurrency=10, retry_delays_s=(2, 6, 18), lambda_timeout_s=60, timeout_s=60, group_cap=10
        ),
        Q.MESSAGE_SEND: QueuePolicy(
            id=4,
            priority=5,
            concurrency=5,
            retry_delays_s=(2, 6, 18, 54, 162),
            lambda_timeout_s=60,
            timeout_s=720,  # send_timeout_s is 600 at most
            # whatsmeow sends one message of a client at a time: a second would only hold a slot.
            group_cap=1,
            rate_per_minute=80,
            burst=10,
        ),
        Q.MESSAGE_STATUS: QueuePolicy(
            id=5, priority=4, concurrency=5, retry_delays_s=(2, 6, 18), lambda_timeout_s=60, timeout_s=60, group_cap=10
        ),
        Q.WEBHOOK_DELIVERY: QueuePolicy(
            id=6,
            priority=3,
            concurrency=3,
            # The seed's three, then on to about three days: 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
            retry_delays_s=(10, 30, 90, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
            lambda_timeout_s=60,
            timeout_s=360,  # webhook_timeout_s is 300 at most
            lends_at_most=50,  # 25 receivers that hang at the same moment, before their circuits open
            group_cap=2,
        ),
        Q.MAINTENANCE_CLEANUP: QueuePolicy(
            id=7, priority=1, concurrency=1, retry_delays_s=(), lambda_timeout_s=300, timeout_s=3600
        ),
    }
)

QUEUE_OF_ID: Final[Mapping[int, Q]] = MappingProxyType({policy.id: queue for queue, policy in POLICIES.items()})
