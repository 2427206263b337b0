"""Who comes with wrong keys: counted by address, so that guessing keys costs Postgres nothing after a while.

A key is 256 random bits, which nobody guesses. What is limited is the load: an address with too many wrong keys is
refused before its key is looked up. A key that was right in this process lately still gets in from there, so that
whoever shares an address, or a proxy that is not in ZAPHUB_TRUSTED_PROXIES, with a stranger is not shut out.
"""

from http import HTTPStatus

from starlette.types import Scope

from api.client_address import counted_as
from api.door import client_of, door
from api.problems import Problem


def refuse_flood(scope: Scope, digest: bytes | None) -> None:
    """Raises Problem 429 for an address with too many wrong keys; `digest` is that of the key that it shows now."""
    held = door(scope)
    if not held.failures.has_any or (digest is not None and digest in held.known):
        return
    who = counted_as(client_of(scope))
    if not held.failures.has_left(who):
        wait_s = held.failures.retry_after_s(who)
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "RATE_LIMITED",
            f"Too many wrong API keys came from this address. Wait {wait_s} s.",
            retryable=True,
            headers={"Retry-After": str(wait_s)},
        )


def unauthorized(scope: Scope, detail: str) -> Problem:
    """The 401 for a wrong key or ticket; counted."""
    door(scope).failures.take(counted_as(client_of(scope)))
    return Problem(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", detail, headers={"WWW-Authenticate": "Bearer"})
