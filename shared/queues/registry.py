"""What a queue's module says about itself: its handler, and what its rows become when a job ends without it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Failure, Outcome
from shared.domain.writes import Write

# `Any` is functions.resources.Resources: this package does not know what a handler needs.
Handle = Callable[[Job, Any], Awaitable[Outcome]]
HandleBatch = Callable[[Sequence[Job], Any], Awaitable[Sequence[Outcome]]]
OnEnded = Callable[[Mapping[str, Any], Failure], Sequence[Write]]
OnTimeout = Callable[[Failure], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One queue's handler. Exactly one of `handle` and `handle_batch` is set.

    Jobs whose name is in `alone` have a handler of their own, and run by themselves where the others run in batches.

    `handle_batch` gets the jobs of one claim and returns their outcomes in the same order. `on_ended` is told a job's
    data and why it ended when no handler could say so: EXPIRED (never ran in time), STALLED (its workers died), or the
    failure of a last try that raised. Its writes are applied in the transaction that ends the job.

    `on_timeout` says what became of a try that was stopped because it took too long: TIMEOUT. Without it that is a
    failed try, so `handle` must be one that may be stopped anywhere and run again.
    """

    queue: QueueName
    handle: Handle | None = None
    handle_batch: HandleBatch | None = None
    alone: Mapping[str, Handle] = field(default_factory=dict)
    on_ended: OnEnded | None = None
    on_timeout: OnTimeout | None = None


Works = Mapping[QueueName, Work]
