"""`POST /connections/{id}/proxy/test`: whether WhatsApp is reachable the way that the connection goes."""

from typing import assert_never
from uuid import UUID

from fastapi import APIRouter, Response

from api.answers import answer
from api.connection_shapes import ProxyTest
from api.json_body import JsonRoute
from api.problem_shapes import errors
from api.routes.connections import Parts, Writer
from shared.db import connections
from shared.domain.errors import HostUnreachable, NotFound
from shared.hosts import protocol

router = APIRouter(tags=["connections"], route_class=JsonRoute)


@router.post(
    "/connections/{connection_id}/proxy/test",
    summary="Try the connection's proxy",
    response_model=ProxyTest,
    responses=errors(503),
)
async def try_proxy(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """A session host asks WhatsApp's web server through `config.proxy`, or straight without one; up to 15 s.

    200 says that it was tried; `reachable` what came of it. The connection itself is not touched.
    """
    async with parts.queues.pool.acquire() as connection:
        shown = await connections.get_object(
            connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )
    if shown is None:
        raise NotFound("There is no such connection.")
    if parts.hosts is None:
        raise HostUnreachable("The API cannot ask a session host: ZAPHUB_HOST_TOKEN is not set.")
    tried = await parts.hosts.try_proxy(protocol.TryProxy(connection_id=connection_id))
    match tried:
        case protocol.ProxyTried():
            return answer(
                {
                    "proxy": shown["config"].get("proxy"),
                    "reachable": tried.is_reachable,
                    "duration_ms": tried.duration_ms,
                    "trouble": tried.trouble,
                }
            )
        case protocol.NoSession():
            raise NotFound("There is no such connection.")
        case _:
            assert_never(tried)
