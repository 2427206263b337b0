"""`/media`: upload a file, fetch one, whole or in part, delete one."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from api import media
from api.answers import answer
from api.auth import Principal, allowed
from api.chat_shapes import MediaFile
from api.inputs import Input
from api.media_range import Unsatisfiable, http_date, is_known, part_wanted
from api.media_upload import receive
from api.problem_shapes import errors
from api.problems import Problem
from api.routes.connections import Parts
from shared.db.api_keys import Scope
from shared.domain.content import Text
from shared.media.store import BytesMissing

router = APIRouter(tags=["media"])

Reader = Annotated[Principal, Depends(allowed(Scope.MESSAGES_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.MESSAGES_WRITE))]

_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
# The second says that it may be any type; generators of clients want to read the first.
_ANY: Final = {"application/octet-stream": _BINARY, "*/*": _BINARY}
_FORM: Final[dict[str, Any]] = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
        "additionalProperties": False,
    }
}


class UploadMedia(Input):
    connection_id: UUID | None = Field(None, description="whose keys may use it; without it, those of no connection")
    filename: Annotated[Text, Field(min_length=1, max_length=1024)] | None = Field(
        None, description="before the one that a form has"
    )


@router.post(
    "/media",
    status_code=201,
    summary="Upload a file",
    response_model=MediaFile,
    responses=errors(400, 408, 413, 415, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": _FORM, "application/octet-stream": _BINARY},
        }
    },
)
async def upload_media(
    request: Request, query: Annotated[UploadMedia, Query()], caller: Writer, parts: Parts
) -> Response:
    """The body is the file with its Content-Type, or a form with the one part `file`. Its `id` is a `media_id`."""
    owner = media.owner_of(caller, query.connection_id)
    async with parts.media.spool() as spool:
        uploaded = await receive(request, spool)
        kept = await media.keep(parts, caller, uploaded, owner=owner, filename=query.filename)
    return answer(media.shown(kept), status=HTTPStatus.CREATED, headers={"Location": f"/media/{kept.id}"})


@router.get(
    "/media/{media_id}",
    summary="Fetch a file, whole or one range of it",
    response_class=StreamingResponse,
    responses={
        200: {"content": _ANY, "description": "The file, with its own Content-Type"},
        206: {"content": _ANY, "description": "The range"},
        304: {"description": "The client has it, by If-None-Match"},
        **errors(409, 410, 416),
    },
)
async def get_media(request: Request, media_id: UUID, caller: Reader, parts: Parts) -> Response:
    """A file that came in and is still being fetched from WhatsApp is waited for, up to 20 s."""
    found = await media.stored(parts, caller, media_id)
    assert found.size is not None, "a stored file has a size"
    headers = {**media.headers_of(found), "Last-Modified": http_date(found.created_at)}
    if is_known(request.headers, etag=headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(found.size)})
    try:
        part = part_wanted(request.headers, size=found.size, etag=headers["ETag"], modified=found.created_at)
    except Unsatisfiable:
        raise Problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "RANGE_NOT_SATISFIABLE",
            "No byte of the file is in the range that was asked for.",
            headers={"Content-Range": f"bytes */{found.size}"},
        ) from None
    start, stop = (0, found.size) if part is None else (part.start, part.stop)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
    pieces = parts.media.stream(found, start=start, stop=stop)
    # The first piece before the answer begins: what the store refuses is a problem, not a body that breaks off.
    try:
        first = await anext(pieces, b"")
    except BytesMissing as error:
        raise Problem(HTTPStatus.GONE, error.public_code, error.detail) from None
    return StreamingResponse(
        _all(first, pieces),
        status_code=HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
    )


router.head("/media/{media_id}", include_in_schema=False)(get_media)


@router.delete("/media/{media_id}", status_code=204, summary="Delete a file", responses=errors(409))
async def delete_media(media_id: UUID, caller: Writer, parts: Parts) -> Response:
    """Not while a waiting message needs it: 409."""
    await media.delete(parts, caller, media_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _all(first: bytes, pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece
