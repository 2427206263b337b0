"""Where an outbound file comes from when it is no upload: from the request itself, or from a URL."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

from shared.db import media as rows
from shared.db.media import Medium, NewMedium
from shared.db.pool import Connection
from shared.domain.ids import ConnectionId, MessageId, TenantId
from shared.domain.media import MediaId, MediaOrigin, plain_mimetype, safe_filename, unfit
from shared.domain.media_type import decide
from shared.domain.message import MessageType
from shared.egress.fetch import FetchFailed, FetchTooLarge, safe_get
from shared.egress.target import Network
from shared.media.keeping import Media
from shared.media.spool import TooLarge

# The same request may be answered otherwise later: too early, too many, or a fault that passes.
_PASSING: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class NotFetched(Exception):
    """The file of a message is not to be had. `code` is public API; `detail` names no address of ours.

    `may_help`: another try may end otherwise. `is_ours`: by all signs the other side has no part in it.
    """

    def __init__(self, code: str, detail: str, *, may_help: bool = False, is_ours: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.may_help = may_help
        self.is_ours = is_ours


async def keep_base64(
    media: Media,
    data: bytes,
    payload: Mapping[str, Any],
    *,
    tenant_id: TenantId,
    connection_id: ConnectionId,
) -> Medium:
    """Store bytes that came in a request. The same bytes with the same `payload` have the same id on a connection.

    Raises TooLarge, NotFound for a connection that is none, and Unavailable.
    """
    async with media.spool() as spool:
        await spool.write(data)
        spooled = await spool.finish()
        mimetype = decide(spooled.beginning, plain_mimetype(payload.get("mimetype")))
        filename = safe_filename(payload.get("filename"))
        named = f"zaphub:media:{tenant_id}:{connection_id}:{spooled.sha256.hex()}:{mimetype}:{filename}"
        new = NewMedium(
            id=MediaId(uuid5(NAMESPACE_URL, named)),
            tenant_id=tenant_id,
            connection_id=connection_id,
            origin=MediaOrigin.BASE64,
            mimetype=mimetype,
            filename=filename,
        )
        return await media.add(spooled, new)


async def keep_url(
    media: Media,
    message_id: MessageId,
    payload: Mapping[str, Any],
    *,
    type_: MessageType,
    connection_id: ConnectionId,
    deadline_s: float,
    allow_networks: Sequence[Network],
) -> Medium:
    """Fetch the file of a message's `url`, store it, and record in the message's payload that it has it.

    Raises NotFetched, NotFound when the connection is deleted, and Unavailable when our own store or database does not
    answer.
    """
    async with media.spool() as spool:
        try:
            async with safe_get(
                payload["url"], max_bytes=media.max_bytes, deadline_s=deadline_s, allow_networks=allow_networks
            ) as answer:
                if answer.status != HTTPStatus.OK:
                    raise _refusal(answer.status)
                async for chunk in answer.chunks:
                    await spool.write(chunk)
                declared = plain_mimetype(payload.get("mimetype")) or plain_mimetype(answer.headers.get("content-type"))
        except (FetchTooLarge, TooLarge):
            raise NotFetched("MEDIA_TOO_LARGE", f"The file at the URL has more than {media.max_bytes} bytes.") from None
        except FetchFailed as error:
            raise NotFetched(
                "MEDIA_FETCH_FAILED",
                f"The file could not be fetched: {error.detail}.",
                may_help=error.may_help,
                is_ours=error.is_ours,
            ) from error
        spooled = await spool.finish()
        if not spooled.size:
            raise NotFetched("MEDIA_FETCH_FAILED", "The file at the URL is empty.", may_help=True)
        mimetype = decide(spooled.beginning, declared)
        if (wanted := unfit(type_, mimetype)) is not None:
            raise NotFetched("MEDIA_UNFIT", f"The type {type_} takes {wanted}, and the URL gave {mimetype}.")
        new = NewMedium(
            id=MediaId(uuid4()),
            tenant_id=None,
            connection_id=connection_id,
            origin=MediaOrigin.URL,
            mimetype=mimetype,
            filename=safe_filename(payload.get("filename")) or _name_in(payload["url"]),
        )

        async def give(connection: Connection, kept: Medium) -> None:
            await rows.give_to_message(connection, message_id, {"media_id": str(kept.id)})

        return await media.add(spooled, new, also=give)


def _refusal(status: int) -> NotFetched:
    may_help = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING
    return NotFetched("MEDIA_FETCH_FAILED", f"The URL answered {status}, not the file.", may_help=may_help)


def _name_in(url: str) -> str | None:
    """The last part of the URL's path, as a document's name when it was given none."""
    return safe_filename(PurePosixPath(unquote(urlsplit(url).path)).name)
