"""`send` and `send/batch`: accept messages, and wait for one if the client prefers that."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from api import sending
from api.answers import accepted, answer, job_summary, list_of
from api.auth import Principal, allowed, charge
from api.batch_language import in_language
from api.idempotency_key import keyed_request
from api.inputs import Send, SendBatch
from api.lean_route import LeanRoute
from api.message_shapes import BatchAccepted, MessageAccepted
from api.problem_shapes import errors
from api.routes.connections import Parts
from api.sending import Sent
from shared.db.api_keys import Scope
from shared.domain.jobs import QueueName

router = APIRouter(tags=["messages"], route_class=LeanRoute)

Writer = Annotated[Principal, Depends(allowed(Scope.MESSAGES_WRITE))]

_MAX_WAIT_S: Final = 25
_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


@router.post(
    "/connections/{connection_id}/send",
    status_code=202,
    summary="Send a message",
    response_model=MessageAccepted,
    responses={
        200: {"model": MessageAccepted, "description": "It settled within the time of `Prefer: wait`"},
        **errors(409),
    },
)
async def send(request: Request, connection_id: UUID, body: Send, caller: Writer, parts: Parts) -> Response:
    """`Prefer: wait=15` answers 200 when the message settles in time: sent, or ended without."""
    sent = await sending.send(parts, caller, connection_id, body, await keyed_request(request, caller))
    wait_s = _preferred_wait_s(request)
    if wait_s is None:
        return accepted(_shown(sent))
    message = await sending.settled(parts, caller, sent, wait_s=wait_s)
    headers = {"Preference-Applied": f"wait={wait_s}"}
    if message is None:
        return answer(_shown(sent), status=202, headers=headers)
    return answer({**_shown(sent), "message": message}, headers=headers)


@router.post(
    "/connections/{connection_id}/send/batch",
    status_code=202,
    summary="Send up to 1000 messages",
    response_model=BatchAccepted,
    responses=errors(409),
)
async def send_batch(request: Request, connection_id: UUID, body: SendBatch, caller: Writer, parts: Parts) -> Response:
    """Each message is accepted or refused by itself: `results` has a `message` or an `error` for each."""
    charge(request, caller, len(body.messages) - 1)  # beside the one that every request costs
    keyed = await keyed_request(request, caller)
    results = await sending.send_batch(parts, caller, connection_id, body.messages, keyed)
    spoken, headers = in_language(request.scope, results)
    return answer({"results": list_of(spoken)}, status=202, headers=headers)


def _preferred_wait_s(request: Request) -> int | None:
    """The seconds of `Prefer: wait=…`, at most 25; a preference that cannot be read is no preference (RFC 7240)."""
    for header in request.headers.getlist("prefer"):
        if match := _WAIT.search(header):
            return min(int(match[1]), _MAX_WAIT_S)
    return None


def _shown(sent: Sent) -> dict[str, Any]:
    return {
        "message": sent.message_json,
        "job": None if sent.job is None else job_summary(sent.job, queue=QueueName.MESSAGE_SEND),
        "deduplicated": sent.deduplicated,
    }
