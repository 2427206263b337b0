"""What `/media` does: whose a file may be, which type it is, how it is shown, and when it may go."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from api.auth import Principal
from api.media_upload import Uploaded
from api.problems import Problem
from api.resources import Resources
from api.waiting import poll
from shared.db import media as rows
from shared.db.media import Medium, NewMedium
from shared.domain.errors import Conflict, InvalidInput, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.media import MediaId, MediaOrigin, MediaState, is_shown_inline, safe_filename
from shared.domain.media_type import decide

# A file that came in is mostly here within a second; a client that asks at once need not ask twice.
WAIT_S: Final = 20.0


def owner_of(caller: Principal, connection_id: UUID | None) -> ConnectionId | None:
    """The connection that an upload belongs to; None: all of the tenant's.

    A key that is limited to one connection means that one. Raises NotFound for a foreign one, InvalidInput when the
    key has several and none is named.
    """
    if connection_id is not None:
        caller.sees(connection_id)
        return ConnectionId(connection_id)
    if caller.connection_ids is None:
        return None
    if len(caller.connection_ids) == 1:
        return caller.connection_ids[0]
    raise InvalidInput("The API key is limited to some connections: say which one.", pointer="?connection_id")


async def keep(
    parts: Resources, caller: Principal, uploaded: Uploaded, *, owner: ConnectionId | None, filename: str | None
) -> Medium:
    """Store an upload. Its type is what its bytes say; `filename` goes before the one in the form."""
    new = NewMedium(
        id=MediaId(uuid4()),
        tenant_id=caller.tenant_id,
        connection_id=owner,
        origin=MediaOrigin.UPLOAD,
        mimetype=decide(uploaded.file.beginning, uploaded.mimetype),
        filename=safe_filename(filename or uploaded.filename),
    )
    return await parts.media.add(uploaded.file, new)


async def stored(parts: Resources, caller: Principal, media_id: UUID) -> Medium:
    """The file, once it is here. Raises NotFound, and Problem 409 while it is fetched, 410 when it cannot be."""

    async def look() -> Medium | None:
        found = await _found(parts, caller, media_id)
        return None if found.state is MediaState.PENDING else found

    found = await poll(parts, look, wait_s=WAIT_S)
    if found is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "MEDIA_PENDING",
            "The file is still being fetched from WhatsApp. Ask again in a moment.",
            retryable=True,
            headers={"Retry-After": "5"},
        )
    if found.state is MediaState.FAILED:
        error = found.error or {}
        raise Problem(HTTPStatus.GONE, error.get("code", "MEDIA_GONE"), error.get("detail", "The file is not here."))
    return found


async def delete(parts: Resources, caller: Principal, media_id: UUID) -> None:
    """Delete the file now. Raises NotFound, and Conflict while a waiting message needs it."""
    async with parts.queues.pool.acquire() as connection, connection.transaction():
        is_deleted = await rows.delete(connection, media_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    if is_deleted is None:
        raise NotFound("There is no such file.")
    if not is_deleted:
        raise Conflict("A message that waits needs this file. Cancel the message first, or let it leave.")


async def _found(parts: Resources, caller: Principal, media_id: UUID) -> Medium:
    async with parts.queues.pool.acquire() as connection:
        found = await rows.get(connection, media_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    if found is None:
        raise NotFound("There is no such file.")
    return found


def shown(found: Medium) -> dict[str, Any]:
    """A file as the API shows it."""
    return {
        "id": found.id,
        "connection_id": found.connection_id,
        "mimetype": found.mimetype,
        "size": found.size,
        "sha256": None if found.sha256 is None else found.sha256.hex(),
        "filename": found.filename,
        "url": f"/media/{found.id}",
        "created_at": found.created_at,
        "expires_at": found.expires_at,
    }


def etag_of(found: Medium) -> str:
    """Strong: another content has another one."""
    assert found.sha256 is not None, "only a stored file is served"
    return f'"{found.sha256.hex()}"'


def headers_of(found: Medium) -> Mapping[str, str]:
    """What keeps a browser from running the file, whatever is in it."""
    kind = "inline" if is_shown_inline(found.mimetype) else "attachment"
    return {
        # As it is: a response's media_type would give a text the charset utf-8 by guess.
        "Content-Type": found.mimetype,
        "Content-Disposition": f"{kind}{_filename_parameters(found.filename)}",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "ETag": etag_of(found),
    }


def _filename_parameters(name: str | None) -> str:
    """RFC 6266: in ASCII for old clients, in UTF-8 for the others."""
    if name is None:
        return ""
    plain = name.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_").replace("%", "_")
    return f"; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
