"""Opening, closing, pausing and deleting a connection. Each call may be repeated."""

from uuid import UUID

from fastapi import APIRouter, Response

from api import lifecycle
from api.answers import accepted
from api.connection_shapes import ConnectionChanged
from api.json_body import JsonRoute
from api.routes.connections import Parts, Writer, shown

router = APIRouter(tags=["connections"], route_class=JsonRoute)


@router.post("/connections/{connection_id}/start", status_code=202, summary="Open it", response_model=ConnectionChanged)
async def start_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """Again while an opening is pending, it is the same job: `deduplicated` is true."""
    return accepted(shown(await lifecycle.start(parts, caller, connection_id)))


@router.post(
    "/connections/{connection_id}/restart",
    status_code=202,
    summary="Close its socket and open it again",
    response_model=ConnectionChanged,
)
async def restart_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """For a connection that hangs; it stays linked."""
    return accepted(shown(await lifecycle.start(parts, caller, connection_id, anew=True)))


@router.post(
    "/connections/{connection_id}/stop",
    status_code=202,
    summary="Close its socket; it stays linked",
    response_model=ConnectionChanged,
)
async def stop_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """Messages are accepted and wait. `start` opens it again without a scan."""
    return accepted(shown(await lifecycle.close(parts, caller, connection_id, reason="stop")))


@router.post(
    "/connections/{connection_id}/logout", status_code=202, summary="Unlink the phone", response_model=ConnectionChanged
)
async def log_out_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """The phone shows it no longer; `start` asks for a new scan."""
    return accepted(shown(await lifecycle.close(parts, caller, connection_id, reason="logout")))


@router.post(
    "/connections/{connection_id}/pause",
    status_code=202,
    summary="Let its sends wait; it stays online",
    response_model=ConnectionChanged,
)
async def pause_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """Nothing is lost: messages are accepted and wait until `resume` or until they expire."""
    return accepted(shown(await lifecycle.set_paused(parts, caller, connection_id, paused=True)))


@router.post(
    "/connections/{connection_id}/resume",
    status_code=202,
    summary="Let its sends go on",
    response_model=ConnectionChanged,
)
async def resume_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """What waited goes out in its order, at the rate of the connection."""
    return accepted(shown(await lifecycle.set_paused(parts, caller, connection_id, paused=False)))


@router.delete(
    "/connections/{connection_id}",
    status_code=202,
    summary="Unlink and close it; its history stays",
    response_model=ConnectionChanged,
)
async def delete_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    """What has not left is cancelled. Messages and events stay until retention takes them."""
    return accepted(shown(await lifecycle.delete(parts, caller, connection_id)))
