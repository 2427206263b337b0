"""What a job is: the names of the seven queues, a job to be made, a job that was claimed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

_PROGRESS_BYTES: Final = 2048
_ALL: Final = 100


class QueueName(StrEnum):
    """The seven queues. On SQS, in Lambda and in Terraform `-` stands for `:`."""

    SESSION_INIT = "session:init"
    SESSION_CLOSE = "session:close"
    MESSAGE_RECEIVE = "message:receive"
    MESSAGE_SEND = "message:send"
    MESSAGE_STATUS = "message:status"
    WEBHOOK_DELIVERY = "webhook:delivery"
    MAINTENANCE_CLEANUP = "maintenance:cleanup"


class JobState(StrEnum):
    """Where a job is. A job behind an earlier one of its order key is `blocked` inside and `waiting` outside."""

    WAITING = "waiting"
    BLOCKED = "blocked"
    DELAYED = "delayed"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Dedupe(StrEnum):
    """How long a job's id keeps another job of that id out."""

    LIVE = "live"  # until the job ends
    WAITING = "waiting"  # until it is claimed: for jobs that mean "look again", of which one may run and one wait


class Progress:
    """How far a running job is: `report` it as often as you like, the newest is shown about every second."""

    __slots__ = ("_is_new", "_value")

    def __init__(self) -> None:
        self._value: float | Mapping[str, Any] | None = None
        self._is_new = False

    def report(self, value: float | Mapping[str, Any]) -> None:
        """Say so: 0 to 100, or a JSON object of 2 KiB at most. Raises ValueError for anything else."""
        if isinstance(value, Mapping):
            value = dict(value)
            if len(json.dumps(value, allow_nan=False).encode()) > _PROGRESS_BYTES:
                raise ValueError(f"a progress object has {_PROGRESS_BYTES} bytes at most")
        elif not 0 <= value <= _ALL:
            raise ValueError("progress is a number from 0 to 100")
        self._value = value
        self._is_new = True

    def news(self) -> float | Mapping[str, Any] | None:
        """What was reported since the last call, or None. Safe from another thread than `report`."""
        if not self._is_new:
            return None
        self._is_new = False
        return self._value


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to enqueue. What is None comes from the queue's policy.

    `group` (a session, an endpoint) shares concurrency, rate and pauses; `order_key` (a chat) is strictly first in,
    first out with one in flight; `urgency` 0 to 9 orders jobs of the same `priority`, greater first. A job with a
    `run_at` in the future takes its place in its order key when it falls due. `expires_at`: never run after it.
    `timeout_s`: a try that takes longer is stopped and has failed.
    """

    queue: QueueName
    job_id: str
    name: str
    data: Mapping[str, Any]
    priority: int | None = None
    urgency: int = 0
    group: str | None = None
    order_key: str | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    max_attempts: int | None = None
    timeout_s: float | None = None
    dedupe: Dedupe = Dedupe.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of a NewJob: `deduplicated` when a job of that id lives already, and then `pk` is that job's."""

    pk: int
    job_id: str
    state: JobState
    deduplicated: bool


@dataclass(slots=True, kw_only=True)  # not frozen, which costs 2 us for each job that is claimed
class Job:
    """A claimed job, as its handler sees it. Nobody changes it.

    `attempt` counts from 1; a park or snooze gives its attempt back. `stalled` is how often a worker died with it.
    `is_canceled`: someone cancelled it while an earlier try ran, so it is not run again.
    """

    pk: int
    job_id: str
    queue: QueueName
    name: str
    data: Mapping[str, Any]
    attempt: int
    max_attempts: int
    stalled: int
    fence: int
    group: str | None
    order_key: str | None
    priority: int
    created_at: datetime
    expires_at: datetime | None = field(default=None)
    timeout_s: float | None = None
    is_canceled: bool = False
    progress: Progress = field(default_factory=Progress, compare=False, repr=False)

    @property
    def is_last_attempt(self) -> bool:
        return self.attempt >= self.max_attempts
