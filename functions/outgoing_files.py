"""The file of an outbound message: it is in our store before the message's first try, whatever becomes of its URL."""

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from functions.resources import Resources
from shared.domain.errors import NotFound, Unavailable
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.media import MEDIA_TYPES
from shared.domain.message import MessageType
from shared.hosts.protocol import Refused
from shared.media.sources import NotFetched, keep_url


class Carrying(Protocol):
    """A message that is about to be sent, as far as it can have a file."""

    @property
    def id(self) -> MessageId: ...
    @property
    def connection_id(self) -> ConnectionId: ...
    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


async def with_file(use: Resources, message: Carrying) -> Mapping[str, Any] | Refused | Unavailable:
    """The payload, with the `media_id` of a file that is stored.

    Refused: it cannot be sent, or not now. Unavailable: nothing was tried, and the fault is ours.
    """
    if message.type not in MEDIA_TYPES:
        return message.payload
    try:
        if "media_id" in message.payload:
            found = await _stored(use, message.payload["media_id"])
            if found or "url" not in message.payload:
                return message.payload if found else _gone()
        if "url" not in message.payload:
            return _gone()
        kept = await keep_url(
            use.media,
            message.id,
            message.payload,
            type_=MessageType(message.type),
            connection_id=message.connection_id,
            deadline_s=use.settings.media_fetch_timeout_s,
            allow_networks=use.settings.webhook_allow_networks,
        )
    except NotFetched as error:
        if error.is_ours:
            return Unavailable(error.detail)
        return Refused(code=error.code, detail=error.detail, permanent=not error.may_help)
    except NotFound as error:
        return Refused(code=error.public_code, detail=error.detail, permanent=True)
    except Unavailable as error:
        return error
    return {**message.payload, "media_id": str(kept.id)}


async def _stored(use: Resources, media_id: str) -> bool:
    try:
        await use.media.find(UUID(media_id))
    except (NotFound, ValueError):
        return False
    return True


def _gone() -> Refused:
    return Refused(code="MEDIA_GONE", detail="The file of this message is not here any more.", permanent=True)
