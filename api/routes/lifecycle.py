"""Opening, closing, pausing and deleting a connection. Each call may be repeated."""

from uuid import UUID

from fastapi import APIRouter, Response

from api import lifecycle
from api.answers import accepted
from api.json_body import JsonRoute
from api.routes.connections import Parts, Writer, shown

router = APIRouter(tags=["connections"], route_class=JsonRoute)


@router.post("/connections/{connection_id}/start", status_code=202, summary="Open it")
async def start_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.start(parts, caller, connection_id)))


@router.post("/connections/{connection_id}/restart", status_code=202, summary="Close its socket and open it again")
async def restart_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.start(parts, caller, connection_id, anew=True)))


@router.post("/connections/{connection_id}/stop", status_code=202, summary="Close its socket; it stays linked")
async def stop_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.close(parts, caller, connection_id, reason="stop")))


@router.post("/connections/{connection_id}/logout", status_code=202, summary="Unlink the phone")
async def log_out_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.close(parts, caller, connection_id, reason="logout")))


@router.post("/connections/{connection_id}/pause", status_code=202, summary="Let its sends wait; it stays online")
async def pause_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.set_paused(parts, caller, connection_id, paused=True)))


@router.post("/connections/{connection_id}/resume", status_code=202, summary="Let its sends go on")
async def resume_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.set_paused(parts, caller, connection_id, paused=False)))


@router.delete("/connections/{connection_id}", status_code=202, summary="Unlink and close it; its history stays")
async def delete_connection(connection_id: UUID, caller: Writer, parts: Parts) -> Response:
    return accepted(shown(await lifecycle.delete(parts, caller, connection_id)))
