"""Messages that are there: list, show, their history; retry, cancel, and settle one that is in doubt."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from api.answers import accepted, answer, job_summary
from api.auth import Principal, allowed
from api.inputs import Input, Name, Resolve
from api.json_body import JsonRoute
from api.message_shapes import MessageChanged, MessageDetail, MessagePage, MessageRetried, Timeline
from api.pages import DEFAULT_LIMIT, Cursor, Limit, page, place_of
from api.problem_shapes import errors
from api.routes.connections import Parts
from shared.db import connections, known_numbers, messages
from shared.db.api_keys import Scope
from shared.domain.errors import NotFound
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.jid import parse_jid
from shared.domain.jobs import QueueName
from shared.domain.message import Direction, MessageStatus, MessageType
from shared.queues import line, sends

router = APIRouter(tags=["messages"], route_class=JsonRoute)

Reader = Annotated[Principal, Depends(allowed(Scope.MESSAGES_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.MESSAGES_WRITE))]


class ListMessages(Input):
    direction: Direction | None = None
    status: MessageStatus | None = None
    jid: Name | None = None
    type: MessageType | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor = None


@router.get("/connections/{connection_id}/messages", summary="List messages, newest first", response_model=MessagePage)
async def list_messages(
    connection_id: UUID, query: Annotated[ListMessages, Query()], caller: Reader, parts: Parts
) -> Response:
    """Sent and received ones of a connection. `jid`, a phone number or a JID: any name of a chat finds all of it."""
    after = place_of(query.cursor)
    chat = None if query.jid is None else parse_jid(query.jid, pointer="?jid")
    async with parts.queues.pool.acquire() as connection:
        if not await connections.get_object(
            connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        ):
            raise NotFound("There is no such connection.")
        rows = await messages.list_objects(
            connection,
            ConnectionId(connection_id),
            direction=query.direction,
            status=query.status,
            jids=None if chat is None else await known_numbers.names_of(connection, connection_id, chat),
            type_=query.type,
            after=after,
            limit=query.limit + 1,
        )
    return answer(
        page(rows, limit=query.limit, place=lambda row: (row["created_at"], row["id"]), show=lambda row: row["object"])
    )


@router.get("/messages/{message_id}", summary="Show a message", response_model=MessageDetail)
async def get_message(message_id: UUID, caller: Reader, parts: Parts) -> Response:
    """`position`: how many of its connection go before it; `estimated_send_at`: a guess. Null when it does not wait."""
    async with parts.queues.pool.acquire() as connection:
        found = await messages.get_object(
            connection, message_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )
        if found is None:
            raise NotFound("There is no such message.")
        place = await line.place_of(connection, message_id, ConnectionId(UUID(found["connection_id"])))
    return answer({**found, **place})


@router.get(
    "/messages/{message_id}/timeline",
    summary="Every transition, attempt and webhook of a message",
    response_model=Timeline,
)
async def get_timeline(message_id: UUID, caller: Reader, parts: Parts) -> Response:
    """The whole story, oldest first: why it waits, what each try gave, who was told."""
    async with parts.queues.pool.acquire() as connection:
        if not await messages.get_object(
            connection, message_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        ):
            raise NotFound("There is no such message.")
        return answer({"data": await messages.timeline(connection, MessageId(message_id)), "next_cursor": None})


@router.post(
    "/messages/{message_id}/retry",
    status_code=202,
    summary="Send a message that failed once more",
    response_model=MessageRetried,
    responses=errors(409),
)
async def retry_message(message_id: UUID, caller: Writer, parts: Parts) -> Response:
    """From `failed`, `dlq` and `unknown`, with a new budget of tries; works after its job was cleaned up.

    One that waits as WhatsApp restricts its chat (`parked_reason` `chat_restricted`) is tried now, in its place.
    """
    async with parts.queues.transaction() as tx:
        result = await sends.retry(
            tx,
            message_id,
            tenant_id=caller.tenant_id,
            allowed=caller.connection_ids,
            default_ttl_s=parts.settings.send_ttl_seconds,
        )
    return accepted({"message": result.message, "job": job_summary(result.job, queue=QueueName.MESSAGE_SEND)})


@router.post(
    "/messages/{message_id}/cancel",
    status_code=202,
    summary="Take back a message that has not left",
    response_model=MessageChanged,
    responses=errors(409),
)
async def cancel_message(message_id: UUID, caller: Writer, parts: Parts) -> Response:
    """From `scheduled`, `queued` and `failed`."""
    async with parts.queues.transaction() as tx:
        message = await sends.cancel(tx, message_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    return accepted({"message": message})


@router.post(
    "/messages/{message_id}/resolve",
    status_code=202,
    summary="Settle a message that is in doubt",
    response_model=MessageChanged,
    responses=errors(409),
)
async def resolve_message(message_id: UUID, body: Resolve, caller: Writer, parts: Parts) -> Response:
    """Of an `unknown` message: `sent` ends it, `not_sent` makes it one that may be retried."""
    async with parts.queues.transaction() as tx:
        message = await sends.resolve(
            tx,
            message_id,
            was_sent=body.outcome == "sent",
            tenant_id=caller.tenant_id,
            allowed=caller.connection_ids,
        )
    return accepted({"message": message})
