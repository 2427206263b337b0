"""`/events`: the durable log of what happened, read by pages, followed as a stream, and the ticket for browsers."""

import re
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field, model_validator

from api.answers import answer
from api.auth import Principal, allowed
from api.event_feed import Feed
from api.event_shapes import STREAM_EXAMPLE, EventPage, Ticket, event_shown
from api.event_stream import EventStream, Following
from api.inputs import Input
from api.json_body import JsonRoute
from api.pages import DEFAULT_LIMIT, Cursor, Limit, number_cursor_of, number_of
from api.problem_shapes import errors
from api.problems import Problem
from api.resources import Resources, resources
from api.routes.connections import Parts
from api.strangers import refuse_flood, unauthorized
from shared.db import events
from shared.db.api_keys import Scope
from shared.db.event_horizon import LogRewound
from shared.db.events import TicketHolder, Wanted
from shared.domain.errors import InvalidInput, NotFound
from shared.domain.ids import ConnectionId

router = APIRouter(tags=["events"], route_class=JsonRoute)

_TICKET_S: Final = 45
_WRONG_TICKET: Final = (
    "The ticket is unknown, used or expired: each opens one stream. POST /events/ticket gives another."
)
_PATIENCE_S: Final = 1.0  # for transactions that are just being committed
_LOOKS: Final = 20  # of some thousand events each, for those that a filter means
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Reader = Annotated[Principal, Depends(allowed(Scope.EVENTS_READ))]
After = Annotated[
    str | None,
    Field(max_length=200, description="the `id` of the last event you have seen, or a `next_cursor`"),
]
Type = Annotated[
    str | None,
    Field(
        pattern=r"^[a-z]{1,50}\.(\*|[a-z_]{1,50})$",
        description="one type, such as `message.sent`, or all of a category: `message.*`",
    ),
]
ConnectionFilter = Annotated[UUID | None, Field(description="events of this connection")]


class ListEvents(Input):
    after: After = None
    cursor: Cursor = None
    type: Type = None
    connection_id: ConnectionFilter = None
    limit: Limit = DEFAULT_LIMIT

    @model_validator(mode="after")
    def _has_one_place(self) -> "ListEvents":
        if self.after is not None and self.cursor is not None and self.after != self.cursor:
            raise ValueError("give `after` or `cursor`, which mean the same, not both")
        return self


class StreamEvents(Input):
    after: After = None
    type: Type = None
    connection_id: ConnectionFilter = None
    ticket: str | None = Field(
        None, max_length=128, description="in place of a key: one of `POST /events/ticket`, good for one opening"
    )


async def _feed(request: Request, parts: Parts) -> Feed:
    """The process's own feed, made with the first request that needs it."""
    state = request.app.state
    held: tuple[Resources, Feed] | None = getattr(state, "event_feed", None)
    if held is None or held[0] is not parts:
        held = state.event_feed = (parts, Feed(parts.queues.pool))
    return held[1]


async def _reader_without_ticket(
    request: Request,
    parts: Resources = Depends(resources),  # noqa: B008 - FastAPI's way
) -> Principal | None:
    """Whoever holds the key; None when a ticket is to say it."""
    return None if "ticket" in request.query_params else await allowed(Scope.EVENTS_READ)(request, parts)


TheFeed = Annotated[Feed, Depends(_feed)]


@router.get(
    "/events",
    operation_id="list_events",
    summary="Read the event log, oldest first",
    response_model=EventPage,
    responses=errors(404, 410),
)
async def list_events(query: Annotated[ListEvents, Query()], caller: Reader, parts: Parts, feed: TheFeed) -> Response:
    """Every event once, in one order for all readers. Without `after` it begins with the oldest that is kept.

    `next_cursor` null: you have all there is by now; ask again with `after` the last event's `id`. With a filter a page
    may hold fewer than `limit`, or none, and still have a `next_cursor`: the search goes on from there.
    """
    wanted = await _wanted(parts, caller, type_=query.type, connection_id=query.connection_id)
    place = query.after if query.after is not None else query.cursor
    pointer = "?after" if query.after is not None else "?cursor"
    position = await _position(parts, caller, place, pointer=pointer) or 0
    until = await _until(feed)
    data: list[dict[str, Any]] = []
    for _ in range(_LOOKS):
        if position >= until or len(data) >= query.limit:
            break
        found, position = await events.read(
            parts.queues.pool, wanted, after=position, until=until, limit=query.limit - len(data)
        )
        data += map(event_shown, found)
    return answer({"data": data, "next_cursor": number_cursor_of(position) if position < until else None})


@router.get(
    "/events/stream",
    operation_id="stream_events",
    summary="Follow the event log as server-sent events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}}},
        **errors(404, 410),
    },
)
async def stream_events(
    request: Request,
    query: Annotated[StreamEvents, Query()],
    keyed: Annotated[Principal | None, Depends(_reader_without_ticket)],
    parts: Parts,
    feed: TheFeed,
    last_event_id: Annotated[
        str | None, Header(max_length=200, description="sent by EventSource when it comes back; goes before `after`")
    ] = None,
) -> Response:
    """Each event as `id`, `event` (its type) and `data` (the same object as in `GET /events`), as it happens.

    With `Last-Event-ID`, or `after`, it goes on behind that event: none is missing, none comes twice. Without, it
    begins now; the header `Last-Event-ID` of the answer says where that is. A comment comes after 15 s of silence. The
    stream ends when the service stops or the key does: come back after `retry` milliseconds.
    """
    feed.refuse_when_full()
    caller = keyed or await _holder(request, parts, query.ticket or "")
    wanted = await _wanted(parts, caller, type_=query.type, connection_id=query.connection_id)
    place, pointer = (last_event_id, "Last-Event-ID") if last_event_id else (query.after, "?after")
    position = await _position(parts, caller, place, pointer=pointer)
    until = await _until(feed)
    following = Following(
        key_id=caller.key_id,
        wanted=wanted,
        after=until if position is None else position,
        # An answer of a Lambda leaves as a whole, so there the client comes back for more.
        is_live="aws.event" not in request.scope,
    )
    headers = {"Last-Event-ID": number_cursor_of(following.after)}
    return EventStream(feed, following, stopping=parts.stopping, headers=headers)


@router.post(
    "/events/ticket",
    operation_id="create_event_ticket",
    summary="Get a ticket that opens one stream without a key",
    response_model=Ticket,
)
async def create_event_ticket(caller: Reader, parts: Parts, feed: TheFeed) -> Response:
    """For browsers, whose EventSource cannot send a key: `/events/stream?ticket=…`, once, within 45 s.

    It may what the key may. `cursor` is where the log is now: given as `after`, nothing between this call and the
    stream's opening is missing.
    """
    until = await _until(feed)
    holder = TicketHolder(
        tenant_id=caller.tenant_id, key_id=caller.key_id, scopes=caller.scopes, connection_ids=caller.connection_ids
    )
    ticket, expires_at = await events.issue_ticket(parts.queues.pool, holder, lasts_s=_TICKET_S)
    return answer({"ticket": ticket, "expires_at": expires_at, "cursor": number_cursor_of(until)})


async def _holder(request: Request, parts: Resources, ticket: str) -> Principal:
    """Who the ticket stands for; it is used up. Raises Problem 401, and 429 after too many wrong ones."""
    refuse_flood(request.scope, None)
    found = await events.use_ticket(parts.queues.pool, ticket)
    holder = (
        None
        if found is None
        else Principal(
            tenant_id=found.tenant_id, key_id=found.key_id, scopes=found.scopes, connection_ids=found.connection_ids
        )
    )
    if holder is None or not holder.may(Scope.EVENTS_READ):
        raise unauthorized(request.scope, _WRONG_TICKET)
    return holder


async def _wanted(parts: Resources, caller: Principal, *, type_: str | None, connection_id: UUID | None) -> Wanted:
    """What this caller asked to see, of what it may. Raises NotFound for a connection that it may not."""
    ids = None if caller.connection_ids is None else frozenset(caller.connection_ids)
    if connection_id is not None:
        caller.sees(connection_id)
        if not await events.connection_exists(parts.queues.pool, connection_id, tenant_id=caller.tenant_id):
            raise NotFound("There is no such connection.")
        ids = frozenset({ConnectionId(connection_id)})
    category = type_.removesuffix(".*") if type_ is not None and type_.endswith(".*") else None
    return Wanted(
        tenant_id=caller.tenant_id,
        connection_ids=ids,
        type=None if category is not None else type_,
        category=category,
    )


async def _position(parts: Resources, caller: Principal, place: str | None, *, pointer: str) -> int | None:
    """Where to go on. Raises InvalidInput for what is neither id nor cursor, Problem 410 for an event not there."""
    if place is None:
        return None
    if not _UUID.fullmatch(place):
        try:
            return number_of(place)
        except InvalidInput:
            raise InvalidInput("Use the `id` of an event, or a `next_cursor`, unchanged.", pointer=pointer) from None
    position = await events.position_of(
        parts.queues.pool, UUID(place), tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    if position is None:
        raise Problem(
            HTTPStatus.GONE,
            "EVENT_GONE",
            "No event with this id is in the log: retention deleted it, or it is not one of yours. What came after it "
            "may be gone too: begin anew without it, and read the objects themselves.",
        )
    return position


async def _until(feed: Feed) -> int:
    try:
        return await feed.horizon.reach(patience_s=_PATIENCE_S)
    except LogRewound:
        # It is known now, and counted from there.
        return await feed.horizon.reach(patience_s=_PATIENCE_S)
