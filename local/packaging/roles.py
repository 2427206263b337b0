"""What goes into each zip: handlers, the packages that they stand on, and which of those a Lambda never loads."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from local.queue_table import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One zip. Its sources are what `handlers` import; `left_out` goes with all that only it needs."""

    handlers: tuple[str, ...]
    requirements: str  # a file of requirements/
    left_out: frozenset[str]
    data: tuple[str, ...]  # folders whose files are read at run time


# Bells come over SQS, and a container that serves one invocation at a time gains nothing from another event loop.
_NOT_IN_A_LAMBDA: Final = frozenset({"redis", "taskiq-redis", "uvloop"})
_TABLE: Final = table()
# The queries, and the roots by which Postgres' own certificate is checked.
_DATA: Final = ("shared/db/sql", "shared/db/certificates")

ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        # One for the seven queues and the sweeper: a sweep may end any queue's job, so it holds all handlers anyway.
        "functions": Role(
            handlers=(*(queue["handler"] for queue in _TABLE["queues"]), _TABLE["sweeper"]["handler"]),
            requirements="worker.txt",
            left_out=_NOT_IN_A_LAMBDA,
            data=_DATA,
        ),
        "api": Role(
            handlers=(_TABLE["api"]["handler"],),
            requirements="api.txt",
            # API Gateway is its server, and it makes jobs without Taskiq.
            left_out=_NOT_IN_A_LAMBDA | {"uvicorn", "httptools", "taskiq"},
            data=(*_DATA, "api/locale"),
        ),
    }
)
