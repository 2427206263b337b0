"""Who asks: the admin key, or a key from `api_keys` with its scopes and connections."""

import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from fastapi import Depends, Request

from api.problems import Problem
from api.resources import Resources, resources
from shared.db import api_keys
from shared.db.api_keys import Scope
from shared.domain.errors import NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, TenantId

_MAX_KEY_BYTES: Final = 512


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
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "FORBIDDEN",
                f"The API key lacks the scope {scope}. Use another key, or make one that has it.",
            )
        return principal

    return check


async def authenticate(request: Request, parts: Resources) -> Principal:
    """The caller. Raises Problem 401, the same whatever is wrong with the key."""
    key = _presented(request)
    if key is None:
        raise _unauthorized()
    admin_key = parts.settings.admin_key
    # Digests are compared, so that neither the length nor the characters of the key matter.
    if admin_key is not None and hmac.compare_digest(
        sha256(admin_key.get_secret_value().encode()).digest(), sha256(key).digest()
    ):
        return ADMIN
    found = await api_keys.authenticate(parts.queues.pool, key)
    if found is None:
        raise _unauthorized()
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


def _unauthorized() -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "UNAUTHORIZED",
        "Send a valid API key, as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
        headers={"WWW-Authenticate": "Bearer"},
    )
