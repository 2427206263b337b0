"""The Cloud API's `messages` call, and its way to a file: under `/compat/cloud`, with or without a version."""

from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from pydantic import ValidationError

from api import media
from api.answers import answer
from api.auth import Principal, allowed
from api.compat import named
from api.compat.accepting import accept, told_at
from api.compat.cloud.inputs import KINDS, UNSENT, MarkRead, SendMessage, Strict
from api.compat.cloud.route import CloudRoute, NoSuchObject, Unsupported
from api.problems import invalid, wrong_value
from api.resources import Resources
from api.routes import chats
from api.routes.connections import Parts
from shared.db import references
from shared.db.api_keys import Scope
from shared.domain.errors import InvalidInput, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.jid import Jid, Server, parse_jid
from shared.domain.message import MessageType
from shared.webhooks.formats.occasion import number_of
from shared.webhooks.formats.wamid import reference_of, wamid

PREFIX: Final = "/compat/cloud"
_MAX_REFERENCE: Final = 255  # characters, as everywhere where a message is named

# As with the other door: its documentation is Meta's.
router = APIRouter(prefix=PREFIX, route_class=CloudRoute, include_in_schema=False)

Reader = Annotated[Principal, Depends(allowed(Scope.MESSAGES_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.MESSAGES_WRITE))]
Said = Annotated[dict[str, Any], Body()]
Version = Annotated[str, Path(pattern=r"^v[0-9]{1,3}\.[0-9]{1,3}$")]
Shape = TypeVar("Shape", bound=Strict)


@router.post("/{phone_number_id}/messages")
async def send_unversioned(
    request: Request, phone_number_id: str, body: Said, caller: Writer, parts: Parts
) -> Response:
    return await _take(request, phone_number_id, body, caller, parts)


@router.post("/{version}/{phone_number_id}/messages")
async def send(
    request: Request,
    version: Version,  # noqa: ARG001 - every version is answered alike: what ZapHub takes is in each of them
    phone_number_id: str,
    body: Said,
    caller: Writer,
    parts: Parts,
) -> Response:
    return await _take(request, phone_number_id, body, caller, parts)


@router.get("/{media_id}")
async def show_media_unversioned(request: Request, media_id: str, caller: Reader, parts: Parts) -> Response:
    return await _show_media(request, media_id, caller, parts)


@router.get("/{version}/{media_id}")
async def show_media(
    request: Request,
    version: Version,  # noqa: ARG001 - as above
    media_id: str,
    caller: Reader,
    parts: Parts,
) -> Response:
    return await _show_media(request, media_id, caller, parts)


@router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def refuse_path(path: str) -> Response:
    raise NoSuchObject(path)


async def _take(
    request: Request, phone_number_id: str, body: dict[str, Any], caller: Principal, parts: Resources
) -> Response:
    connection = await named.find(parts, caller, phone_number_id)
    if connection is None:
        raise NoSuchObject(phone_number_id)
    connection_id = UUID(connection["id"])
    if "status" in body:
        await _mark_read(_parsed(MarkRead, body), ConnectionId(connection_id), caller, parts)
        return answer({"success": True})
    kind = body.get("type")
    if isinstance(kind, str) and kind in UNSENT:
        raise Unsupported(f"ZapHub sends no message of the type {kind}; it sends {', '.join(KINDS)}.")
    said = _parsed(SendMessage, body)
    message = await accept(request, parts, caller, connection_id, _fields(said), places=said.content().places)
    return answer(_shown(said, message))


async def _show_media(request: Request, media_id: str, caller: Principal, parts: Resources) -> Response:
    """Where a file is; the `url` takes the same key. One that is still being fetched is waited for."""
    try:
        found = media.shown(await media.stored(parts, caller, UUID(media_id)))
    except (ValueError, NotFound):
        raise NoSuchObject(media_id) from None
    base = parts.settings.public_url or str(request.base_url)
    return answer(
        {
            "messaging_product": "whatsapp",
            "url": f"{base.rstrip('/')}{found['url']}",
            "mime_type": found["mimetype"],
            "sha256": found["sha256"],
            "file_size": str(found["size"]),
            "id": found["id"],
        }
    )


async def _mark_read(read: MarkRead, connection_id: ConnectionId, caller: Principal, parts: Resources) -> None:
    message_id = _reference(read.message_id, pointer="/message_id")
    # Looked up first: when nobody can be written to there, nothing is marked either.
    chat = None if read.typing_indicator is None else await _chat_of(parts, connection_id, message_id)
    with told_at({"/message_ids/0": "/message_id"}):
        await chats.mark_read(connection_id, chats.MarkRead(message_ids=[message_id]), caller, parts)
    if chat is not None:
        await chats.show_typing(connection_id, chats.ShowTyping.model_validate({"to": str(chat)}), caller, parts)


async def _chat_of(parts: Resources, connection_id: ConnectionId, message_id: str) -> Jid | None:
    """Where an answer to this message goes; None when there is no such message, which marking it says.

    Raises InvalidInput for a contact's status or a channel's post.
    """
    async with parts.queues.pool.acquire() as connection:
        meant = await references.find_message(connection, connection_id, message_id, chat="")
    try:
        return None if meant is None else parse_jid(meant.jid)
    except InvalidInput:
        detail = "This message is a status or a channel's post: nobody types there. Leave typing_indicator out."
        raise InvalidInput(detail, pointer="/typing_indicator") from None


def _fields(said: SendMessage) -> dict[str, Any]:
    """The message in our words. Raises InvalidInput for a group, and for a message id that Meta made."""
    if parse_jid(said.to, pointer="/to").server is Server.GROUP:
        raise InvalidInput("This is a group; with recipient_type individual it is a person.", pointer="/to")
    content = said.content()
    fields: dict[str, Any] = {"to": said.to, "type": content.type.value, "payload": content.payload}
    if said.reaction is not None and content.type is MessageType.REACTION:
        named_by = _reference(said.reaction.message_id, pointer="/reaction/message_id")
        fields["payload"] = {**content.payload, "message_id": named_by}
    if said.context is not None:
        fields["reply_to"] = _reference(said.context.message_id, pointer="/context/message_id")
    if said.biz_opaque_callback_data is not None:
        fields["metadata"] = {"biz_opaque_callback_data": said.biz_opaque_callback_data}
    return fields


def _reference(text: str, *, pointer: str) -> str:
    reference = reference_of(text)
    if reference is None or len(reference) > _MAX_REFERENCE:
        raise InvalidInput("This is no message id that ZapHub gave.", pointer=pointer)
    return reference


def _parsed(shape: type[Shape], body: dict[str, Any]) -> Shape:
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        wrong = [wrong_value({**one, "loc": ("body", *one["loc"])}) for one in error.errors(include_url=False)]
        raise invalid(wrong) from None


def _shown(said: SendMessage, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": said.to, "wa_id": number_of(message["jid"])}],
        "messages": [{"id": wamid(message["id"])}],
    }
