"""All of Evolution's door; what is not there is answered as they answer it."""

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response

from api.compat.door_route import Refused
from api.compat.evolution import chats, files, instances, messages, webhook
from api.compat.evolution.route import PREFIX, EvolutionRoute

_rest = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)
# Its documentation is Evolution's own, so our OpenAPI document is not burdened with it.
ROUTERS: Final = (instances.router, messages.router, chats.router, files.router, webhook.router, _rest)


@_rest.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def refuse_path(request: Request, path: str) -> Response:
    raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", f"Cannot {request.method} /{path}")
