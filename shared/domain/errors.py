"""Every error ZapHub raises, each saying whether a retry may help.

    ZapHubError
    ├── Temporary            a retry may help
    │   ├── Unavailable          Postgres, Redis or another part does not answer
    │   └── HostUnreachable      the session's host does not answer
    └── Permanent            the same call fails again until something changes
        ├── InvalidInput         the caller's value is wrong; `pointer` says which
        ├── NotFound             no such object for this caller
        ├── Conflict             the object is in a state that forbids the call
        └── Misconfigured        a setting or the machine must change first

`code` is public API (docs/errors.md): a stable upper-case word that clients match on.
"""

from typing import ClassVar


class ZapHubError(Exception):
    """The root. `detail` tells a person what happened and what to do."""

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.public_code = code or self.code


class Temporary(ZapHubError):
    """A retry may help."""

    code = "UNAVAILABLE"
    retryable = True


class Unavailable(Temporary):
    """A part that ZapHub needs does not answer; nothing was changed, or the change is idempotent."""


class HostUnreachable(Temporary):
    """The host that owns the session does not answer; what it was asked may or may not have happened."""

    code = "HOST_UNREACHABLE"


class Permanent(ZapHubError):
    """The same call fails again until something changes."""


class InvalidInput(Permanent):
    """A value is wrong. `pointer` is a JSON pointer into the caller's body, "" for the whole of it."""

    code = "VALIDATION_ERROR"

    def __init__(self, detail: str, *, pointer: str = "", code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.pointer = pointer


class NotFound(Permanent):
    """No such object for this caller; foreign objects look the same as missing ones."""

    code = "NOT_FOUND"


class Conflict(Permanent):
    """The object's state forbids the call."""

    code = "INVALID_STATE"


class Misconfigured(Permanent):
    """A setting or the machine must change before this can work."""

    code = "MISCONFIGURED"
