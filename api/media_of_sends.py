"""The files of messages that are to be sent: `base64` is stored at once, a `media_id` is judged, a `url` is read."""

import asyncio
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar
from uuid import UUID

from api.auth import Principal
from api.resources import Resources
from shared.db import media as rows
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId
from shared.domain.media import MEDIA_TYPES, plain_mimetype, unfit
from shared.domain.media_type import decide
from shared.egress.target import parse
from shared.media.sources import keep_base64
from shared.queues.send_requests import SendRequest

# A batch may hold a thousand small files; each is a write to the disk or to S3.
_AT_ONCE: Final = 8

Other = TypeVar("Other")


async def with_files(
    parts: Resources, caller: Principal, connection_id: UUID, requests: Sequence[SendRequest | Other]
) -> list[SendRequest | Other | InvalidInput]:
    """Each request with a file that the caller may send as it says, or why not; what is no request stays as it is.

    The same `base64` gives the same `media_id` every time, so a repeated request is still the same one.
    """
    if not any(isinstance(one, SendRequest) and one.type in MEDIA_TYPES for one in requests):
        return list(requests)
    caller.sees(connection_id)
    known = await _known(parts, caller, [one for one in requests if isinstance(one, SendRequest)])
    turns = asyncio.Semaphore(_AT_ONCE)

    async def judged(one: SendRequest | Other) -> SendRequest | Other | InvalidInput:
        if not isinstance(one, SendRequest) or one.type not in MEDIA_TYPES:
            return one
        try:
            async with turns:
                return await _judged(parts, caller, ConnectionId(connection_id), one, known)
        except InvalidInput as error:
            return error

    return await asyncio.gather(*map(judged, requests))


async def _judged(
    parts: Resources, caller: Principal, connection_id: ConnectionId, request: SendRequest, known: Mapping[UUID, str]
) -> SendRequest:
    payload = dict(request.payload)
    if "url" in payload:
        # Where it leads is judged by whoever goes there; here only whether it is one.
        parse(payload["url"], pointer="/payload/url")
        return request
    if "media_id" in payload:
        media_id = _uuid(payload["media_id"])
        mimetype = None if media_id is None else known.get(media_id)
        if mimetype is None:
            raise InvalidInput("There is no such file, or it is not here any more.", pointer="/payload/media_id")
        _refuse_unfit(request, mimetype, pointer="/payload/media_id")
        return request
    data = _decoded(payload.pop("base64"))
    # Judged before it is stored: what is refused leaves nothing.
    _refuse_unfit(request, decide(data, plain_mimetype(payload.get("mimetype"))), pointer="/payload/base64")
    kept = await keep_base64(parts.media, data, payload, tenant_id=caller.tenant_id, connection_id=connection_id)
    return replace(request, payload={**payload, "media_id": str(kept.id)})


async def _known(parts: Resources, caller: Principal, requests: Sequence[SendRequest]) -> Mapping[UUID, str]:
    given = [
        _uuid(one.payload["media_id"]) for one in requests if one.type in MEDIA_TYPES and "media_id" in one.payload
    ]
    ids = {one for one in given if one is not None}
    if not ids:
        return {}
    async with parts.queues.pool.acquire() as connection:
        return await rows.usable(connection, sorted(ids), tenant_id=caller.tenant_id, allowed=caller.connection_ids)


def _uuid(value: Any) -> UUID | None:  # noqa: ANN401 - a payload's value
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _refuse_unfit(request: SendRequest, mimetype: str, *, pointer: str) -> None:
    if (wanted := unfit(request.type, mimetype)) is not None:
        raise InvalidInput(f"The type {request.type} takes {wanted}, and this file is {mimetype}.", pointer=pointer)


def _decoded(text: str) -> bytes:
    try:
        # Python lets padding pass that is too much.
        if len(text) % 4 == 0:
            return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        pass
    raise InvalidInput("This is not base64 with its padding.", pointer="/payload/base64")
