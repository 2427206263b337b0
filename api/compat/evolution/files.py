"""`chat/getBase64FromMediaMessage`: the file of a message, as text in the answer."""

from base64 import b64encode
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import model_validator

from api import media
from api.answers import answer
from api.auth import Principal, allowed
from api.compat.door_route import Refused
from api.compat.evolution.inputs import Lenient, instance_of
from api.compat.evolution.message_inputs import Key
from api.compat.evolution.route import PREFIX, EvolutionRoute
from api.resources import Resources
from api.routes.connections import Parts
from shared.db import messages, references
from shared.db.api_keys import Scope
from shared.domain.ids import ConnectionId
from shared.media.store import BytesMissing

router = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)

Reader = Annotated[Principal, Depends(allowed(Scope.MESSAGES_READ))]

# As text it is a third more, and all of it is in memory at once; a larger file is fetched with GET /media/{id}.
MAX_BYTES: Final = 16 * 1_048_576


class OfMessage(Lenient):
    key: Key


class GetBase64(Lenient):
    message: OfMessage

    @model_validator(mode="before")
    @classmethod
    def _converts_nothing(cls, value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was given
        if isinstance(value, dict) and value.get("convertToMp4") is True:
            raise ValueError('"convertToMp4" is not there: nothing is converted')
        return value


@router.post("/chat/getBase64FromMediaMessage/{instance}")
async def get_base64(instance: str, body: GetBase64, caller: Reader, parts: Parts) -> Response:
    """A file that is still being fetched from WhatsApp is waited for."""
    found = await instance_of(parts, caller, instance)
    message = await _message(parts, caller, ConnectionId(UUID(found["id"])), body.message.key.id)
    media_id = message["payload"].get("media_id")
    if media_id is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", "The message is not of the media type")
    file = await media.stored(parts, caller, UUID(media_id))
    if file.size is None or file.size > MAX_BYTES:
        detail = f"The file has more than {MAX_BYTES} bytes; fetch it with GET /media/{media_id}"
        raise Refused(HTTPStatus.BAD_REQUEST, "MEDIA_TOO_LARGE", detail)
    try:
        content = b"".join([piece async for piece in parts.media.stream(file, start=0, stop=file.size)])
    except BytesMissing as error:
        raise Refused(HTTPStatus.BAD_REQUEST, error.public_code, error.detail) from None
    return answer(
        {
            "mediaType": f"{message['type']}Message",
            "fileName": file.filename,
            "caption": message["payload"].get("caption"),
            "size": {"fileLength": file.size},
            "mimetype": file.mimetype,
            "base64": b64encode(content).decode(),
            "buffer": None,
        },
        status=HTTPStatus.CREATED,
    )


async def _message(parts: Resources, caller: Principal, connection_id: ConnectionId, reference: str) -> dict[str, Any]:
    async with parts.queues.pool.acquire() as connection:
        meant = await references.find_message(connection, connection_id, reference, chat="")
        found = meant and await messages.get_object(
            connection, meant.id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )
    if not found:
        raise Refused(HTTPStatus.BAD_REQUEST, "NOT_FOUND", "Message not found")
    return found
