"""Who asks: the admin key, or a key from `api_keys` with its scopes and connections."""

import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from fastapi import Depends, Request

from api.door import door, limit_header
from api.problems import Problem
from api.resources import Resources, resources
from api.strangers import refuse_flood, unauthorized
from shared.db.api_keys import Scope
from shared.domain.errors import NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, TenantId

_MAX_KEY_BYTES: Final = 512
_SEND_A_KEY: Final = "Send a valid API key, as `Authorization: Bearer <key>` or `X-API-Key: <key>`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever holds the key. `connection_ids` None: every connection of the tenant."""

    tenant_id: TenantId
    key_id: UUID | None
    scopes: frozenset[str]
    connection_ids: tuple[ConnectionId, ...] | None = None

    def may(self, scope: Scope) -> bool:
        return Scope.ADMIN in self.scopes or scope in self.scopes

    def sees(self, connection_id: UUID) -> None:
        """Raises NotFound for a connection outside this key: foreign objects look like missing ones."""
        if self.connection_ids is not None and connection_id not in self.connection_ids:
            raise NotFound("There is no such connection.")

    def require_everything(self) -> None:
        """As `require_all_connections`, on a call that touches what is every tenant's: only the first tenant may."""
        self.require_all_connections()
        if self.tenant_id != DEFAULT_TENANT:
            raise Problem(HTTPStatus.FORBIDDEN, "FORBIDDEN", "This call is for whoever runs the service.")

    def require_all_connections(self) -> None:
        """Raises Problem 403 for a key that is limited to some connections, on a call that touches all."""
        if self.connection_ids is not None:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "FORBIDDEN",
                "This call touches every connection, and the API key is limited to some. Use one without that limit.",
            )


ADMIN: Final = Principal(tenant_id=DEFAULT_TENANT, key_id=None, scopes=frozenset({Scope.ADMIN}))


def allowed(scope: Scope) -> Callable[[Request, Resources], Coroutine[Any, Any, Principal]]:
    """A dependency: the caller, who holds a valid key with this scope. Raises Problem 401 or 403."""

    async def check(request: Request, parts: Resources = Depends(resources)) -> Principal:  # noqa: B008 - FastAPI's way
        principal = await authenticate(request, parts)
        if not principal.may(scope):
            raise lacking(scope)
        return principal

    # For `api.openapi`, which tells of it, and for the test that tries every route.
    check.scope = scope  # type: ignore[attr-defined]
    return check


def lacking(scope: Scope) -> Problem:
    return Problem(
        HTTPStatus.FORBIDDEN,
        "FORBIDDEN",
        f"The API key lacks the scope {scope}. Use another key, or make one that has it.",
    )


async def authenticate(request: Request, parts: Resources) -> Principal:
    """The caller, whose request is counted. Raises Problem 401, the same whatever is wrong with the key, and 429."""
    key = _presented(request)
    digest = None if key is None else sha256(key).digest()
    refuse_flood(request.scope, digest)
    caller = None if digest is None else await _holder_of(digest, parts)
    if caller is None or digest is None:
        raise unauthorized(request.scope, _SEND_A_KEY)
    door(request.scope).known.add(digest)
    request.scope["state"]["is_keyed"] = True
    charge(request, caller, 1)
    return caller


def charge(request: Request, caller: Principal, cost: int) -> None:
    """Count so much against the key's quota; a call on N recipients costs N. Raises Problem 429 when it is used up.

    The quota is this process's own: see `api.rate_limit`. The answer says in `RateLimit` what is left.
    """
    held = door(request.scope)
    if not held.per_key.per_minute or cost <= 0:
        return
    verdict = held.per_key.take(caller.key_id, cost)
    request.scope["state"]["rate_limit"] = held.policy_header(), limit_header(verdict)
    if not verdict.is_allowed:
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "RATE_LIMITED",
            f"This API key made too many requests: it may make {held.per_key.per_minute} a minute. "
            f"Wait {verdict.retry_after_s} s.",
            retryable=True,
            headers={"Retry-After": str(verdict.retry_after_s)},
        )


async def _holder_of(digest: bytes, parts: Resources) -> Principal | None:
    admin_key = parts.settings.admin_key
    # Digests are compared, so that neither the length nor the characters of the key matter.
    if admin_key is not None and hmac.compare_digest(sha256(admin_key.get_secret_value().encode()).digest(), digest):
        return ADMIN
    # Looked up for every request, so that a revoked one stops at once; in one statement for those of one moment.
    found = await parts.keys.call(digest)
    if found is None:
        return None
    return Principal(
        tenant_id=found.tenant_id, key_id=found.id, scopes=found.scopes, connection_ids=found.connection_ids
    )


def _presented(request: Request) -> bytes | None:
    """The key as it came, or None when there is none, it is absurdly long, or two different ones came."""
    keys = {value.strip() for name, value in request.headers.raw if name == b"x-api-key"}
    for name, value in request.headers.raw:
        if name == b"authorization":
            kind, _, credentials = value.strip().partition(b" ")
            keys.add(credentials.strip() if kind.lower() == b"bearer" else b"")
    if len(keys) != 1:
        return None
    key = keys.pop()
    return key if 0 < len(key) <= _MAX_KEY_BYTES else None
