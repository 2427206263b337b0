"""An endpoint's signing secrets: their form, and the ring of those that hold at one moment."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Final

from shared.domain.errors import InvalidInput

_PREFIX: Final = "whsec_"
_NEW_BYTES: Final = 32
_MIN_BYTES: Final = 24
_MAX_BYTES: Final = 64
_MAX_KEYS: Final = 3  # every one adds a signature to every webhook


def new_secret(random_bytes: Callable[[int], bytes] = token_bytes) -> str:
    """Make a secret of 32 random bytes."""
    return _PREFIX + base64.b64encode(random_bytes(_NEW_BYTES)).decode()


def check_secret(secret: str, *, pointer: str) -> str:
    """Return the secret when it is `whsec_` and the base64 of 24 to 64 bytes. Raises InvalidInput, never showing it."""
    try:
        size = len(key_of(secret))
    except ValueError:
        size = 0
    if not _MIN_BYTES <= size <= _MAX_BYTES:
        raise InvalidInput(
            f"a secret is {_PREFIX} and the base64 of {_MIN_BYTES} to {_MAX_BYTES} bytes; leave it out to get one.",
            pointer=pointer,
        )
    return secret


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ValueError when `secret` has another form."""
    if not secret.startswith(_PREFIX):
        raise ValueError("no prefix")
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


@dataclass(frozen=True, slots=True)
class _Key:
    secret: str
    until: datetime | None  # None: the newest


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The secrets of one endpoint, newest first. An old one goes on signing until its time is over."""

    keys: tuple[_Key, ...]

    @classmethod
    def of(cls, secret: str) -> "Keyring":
        return cls((_Key(secret, None),))

    @classmethod
    def load(cls, text: bytes) -> "Keyring":
        """Read what `dump` wrote."""
        return cls(
            tuple(
                _Key(one["secret"], one["until"] and datetime.fromtimestamp(one["until"], UTC))
                for one in json.loads(text)
            )
        )

    def dump(self) -> bytes:
        """As bytes, to be sealed."""
        return json.dumps(
            [{"secret": key.secret, "until": key.until and int(key.until.timestamp())} for key in self.keys]
        ).encode()

    def rotated(self, secret: str, *, at: datetime, grace: timedelta) -> "Keyring":
        """With a new first secret; those before hold for `grace` more at most, and no more than three are kept."""
        old = (_Key(key.secret, min(key.until or at + grace, at + grace)) for key in self.keys)
        kept = [key for key in old if key.until and key.until > at][: _MAX_KEYS - 1]
        return Keyring((_Key(secret, None), *kept))

    def valid(self, at: datetime) -> list[str]:
        """The secrets that sign at this moment, newest first."""
        return [key.secret for key in self.keys if key.until is None or key.until > at]
