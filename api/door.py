"""What guards the door of one API process: its limits and counters, and what the settings say of links."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from api.client_address import address_of
from api.hang import Hang
from api.rate_limit import WINDOW_S, RateLimit, Verdict
from shared.settings import Network, Settings

_MOST_KNOWN: Final = 10_000
# What a form adds to its file.
_FORM_BYTES: Final = 65_536


class Known:
    """The keys, as digests, that were right lately: those used longest ago are forgotten first.

    Being in here lets nobody in: it only has the key looked up, so that a revoked one stops at once.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, digest: bytes) -> None:
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > _MOST_KNOWN:
            self._digests.popitem(last=False)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests


@dataclass(slots=True, kw_only=True)
class Door:
    """One per process, at `app.state.door`; before the app has started it has the defaults."""

    public_url: str = ""
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    body_timeout_s: float = 30.0
    upload_bytes: int = 64 * 1024 * 1024
    max_in_flight: int = 1000
    per_key: RateLimit = field(default_factory=lambda: RateLimit(0))
    failures: RateLimit = field(default_factory=lambda: RateLimit(0))
    known: Known = field(default_factory=Known)
    in_flight: int = 0
    hang: Hang = field(default_factory=Hang)

    @property
    def is_https(self) -> bool:
        """Whether users reach it by https, so that a browser may be told never to come by http."""
        return self.public_url.startswith("https:")

    def policy_header(self) -> str:
        """`RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers: the quota `q` in a window of `w` seconds."""
        return f'"key";q={self.per_key.per_minute};w={WINDOW_S}'


def door_of(settings: Settings) -> Door:
    """The door as the settings want it, with nobody counted yet."""
    return Door(
        public_url=(settings.public_url or "").rstrip("/"),
        cors_origins=tuple(settings.cors_origins),
        trusted_proxies=tuple(settings.trusted_proxies),
        body_timeout_s=settings.api_body_timeout_s,
        upload_bytes=settings.media_max_bytes + _FORM_BYTES,
        max_in_flight=settings.api_max_in_flight,
        per_key=RateLimit(settings.api_rate_per_minute),
        failures=RateLimit(settings.api_auth_failures_per_minute),
    )


def door(scope: Scope) -> Door:
    held: Door = scope["app"].state.door
    return held


def client_of(scope: Scope) -> str:
    """The address that the request comes from; see `api.client_address`."""
    return address_of(scope, door(scope).trusted_proxies)


def limit_header(verdict: Verdict) -> str:
    """`RateLimit` of the same draft: `r` may still be spent, and in `t` seconds the whole quota is there again."""
    return f'"key";r={verdict.remaining};t={verdict.full_in_s}'
