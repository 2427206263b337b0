"""`/api-keys`: make, list, show, revoke. A key is shown once, in the answer that made it."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from api.answers import answer
from api.auth import Principal, allowed
from api.inputs import CreateApiKey, Input
from api.json_body import JsonRoute
from api.key_shapes import ApiKey as ApiKeyShown
from api.key_shapes import ApiKeyPage, NewApiKey, PatchApiKey
from api.pages import DEFAULT_LIMIT, Cursor, Limit, page, place_of
from api.problem_shapes import errors
from api.problems import Problem
from api.routes.connections import Parts
from shared.db import api_keys
from shared.db.api_keys import ApiKey, Scope
from shared.domain.errors import Conflict
from shared.domain.ids import ConnectionId

router = APIRouter(tags=["api keys"], route_class=JsonRoute)

Reader = Annotated[Principal, Depends(allowed(Scope.KEYS_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.KEYS_WRITE))]


class ListApiKeys(Input):
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@router.post("/api-keys", status_code=201, summary="Make a key; it is shown this once", response_model=NewApiKey)
async def create_api_key(body: CreateApiKey, caller: Writer, parts: Parts) -> Response:
    """`key` is in no other answer: what is kept of it is a hash. Nobody gives a key more than their own has."""
    _refuse_more_than_own(caller, body.scopes)
    async with parts.queues.pool.acquire() as connection, connection.transaction():
        made, key = await api_keys.create(
            connection,
            tenant_id=caller.tenant_id,
            name=body.name,
            scopes=body.scopes,
            connection_ids=None if body.connection_ids is None else [ConnectionId(one) for one in body.connection_ids],
            expires_at=body.expires_at,
        )
    return answer({**_shown(made), "key": key}, status=HTTPStatus.CREATED)


@router.get("/api-keys", summary="List keys, newest first", response_model=ApiKeyPage)
async def list_api_keys(query: Annotated[ListApiKeys, Query()], caller: Reader, parts: Parts) -> Response:
    """Expired and revoked ones included."""
    caller.require_all_connections()
    async with parts.queues.pool.acquire() as connection:
        keys = await api_keys.list_keys(
            connection, tenant_id=caller.tenant_id, after=place_of(query.cursor), limit=query.limit + 1
        )
    return answer(page(keys, limit=query.limit, place=lambda key: (key.created_at, key.id), show=_shown))


@router.get("/api-keys/{key_id}", summary="Show a key, without its secret", response_model=ApiKeyShown)
async def get_api_key(key_id: UUID, caller: Reader, parts: Parts) -> Response:
    """`last_used_at` is right to the minute."""
    caller.require_all_connections()
    async with parts.queues.pool.acquire() as connection:
        return answer(_shown(await api_keys.get(connection, key_id, tenant_id=caller.tenant_id)))


@router.patch(
    "/api-keys/{key_id}",
    summary="Change what a key may do, from the next request on",
    response_model=ApiKeyShown,
    responses=errors(409),
)
async def patch_api_key(key_id: UUID, body: PatchApiKey, caller: Writer, parts: Parts) -> Response:
    """What is given replaces what was there: `connection_ids` null is every connection, `expires_at` null never."""
    _refuse_more_than_own(caller, body.scopes or [])
    async with parts.queues.pool.acquire() as connection, connection.transaction():
        before = await api_keys.lock(connection, key_id, tenant_id=caller.tenant_id)
        # Whoever may not give a scope may not prolong or widen a key that has it.
        _refuse_more_than_own(caller, [Scope(scope) for scope in before.scopes])
        if before.revoked_at is not None:
            raise Conflict("A revoked key cannot be changed; make another.")
        return answer(_shown(await api_keys.change(connection, before, body.changes(), tenant_id=caller.tenant_id)))


@router.delete("/api-keys/{key_id}", summary="Revoke a key, from the next request on", response_model=ApiKeyShown)
async def revoke_api_key(key_id: UUID, caller: Writer, parts: Parts) -> Response:
    """For good. It stays in the list, with the time at which it ended."""
    caller.require_all_connections()
    async with parts.queues.pool.acquire() as connection:
        return answer(_shown(await api_keys.revoke(connection, key_id, tenant_id=caller.tenant_id)))


def _refuse_more_than_own(caller: Principal, scopes: Sequence[Scope]) -> None:
    """Nobody can make a key that may do more than the one it was made with. Raises Problem 403."""
    caller.require_all_connections()
    if missing := [scope.value for scope in scopes if not caller.may(scope)]:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "FORBIDDEN",
            f"The API key lacks {', '.join(missing)} itself, so it cannot give that to another.",
        )


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes,
        "connection_ids": key.connection_ids,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }
