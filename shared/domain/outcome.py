"""How a handler says what became of its job: a value, with the domain's writes that go into the same commit."""

from dataclasses import dataclass, field
from typing import Any

from shared.domain.writes import Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a try failed. `code` is public API, `detail` is for a person and holds no phone number or body."""

    code: str
    detail: str
    retryable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The job's work is finished."""

    result: dict[str, Any] | None = None
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The try failed and another may help. The attempt counts.

    `delay_s` None takes the queue's next delay. When no attempt is left the job goes to the dead letters and
    `last_writes` are applied in place of `writes`.
    """

    failure: Failure
    delay_s: float | None = None
    writes: tuple[Write, ...] = ()
    last_writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """The job's group cannot work now: pause it for `reason`, keep the job in its place, give the attempt back."""

    reason: str
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """Look again in `delay_s`: the job keeps its place in its order key, and the attempt is given back."""

    delay_s: float
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """The work cannot or need not be done. With `failure` the job ends as failed (a dead letter), else cancelled."""

    reason: str
    failure: Failure | None = None
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Nobody can say whether the try did its work. The job holds its order key for `hold_s`, then runs once more.

    The attempt counts: what may have happened is not given back.
    """

    failure: Failure
    hold_s: float
    writes: tuple[Write, ...] = field(default=())


Outcome = Done | Retry | Park | Snooze | Discard | Unknown
