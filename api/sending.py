"""What `send` and `send/batch` do: judge the messages, have them accepted, and say what became of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from api.answers import Ready, object_of
from api.auth import Principal
from api.inputs import AnySend, Order, Send
from api.media_of_sends import with_files
from api.problems import Problem, invalid, to_problem, wrong_value
from api.resources import Resources
from api.waiting import poll
from shared.db import lifecycle, messages
from shared.db.idempotency import Before, KeyedRequest
from shared.db.pool import Connection
from shared.domain import content
from shared.domain.errors import Conflict, InvalidInput, NotFound, ZapHubError
from shared.domain.ids import MessageId
from shared.domain.jobs import Enqueued
from shared.domain.message import SETTLED, MessageType
from shared.queues import admin
from shared.queues.send_requests import Ask, Result, SendRequest

_PARSE: Final[TypeAdapter[Any]] = TypeAdapter(Send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was accepted, now or, if `deduplicated`, before; as the API shows it, in JSON."""

    id: UUID
    message_json: Ready
    job: Enqueued | None
    deduplicated: bool

    @property
    def message(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.message_json.text)
        return shown


async def send(
    parts: Resources, caller: Principal, connection_id: UUID, wanted: AnySend, keyed: KeyedRequest | None
) -> Sent:
    """Accept one message.

    Raises NotFound, InvalidInput for a file that cannot be sent so, and Conflict: another body had this message id or
    key, the connection refuses sends, or it is offline and the message would not wait.
    """
    [request] = await with_files(parts, caller, connection_id, [_request(wanted)])
    if isinstance(request, InvalidInput):
        raise request

    def remember(results: Sequence[Result]) -> dict[str, Any] | None:
        return None if isinstance(results[0], Conflict) else {"message_id": str(results[0].id)}

    served = await parts.queues.accept(
        _ask(caller, connection_id, [request], keyed=keyed, remember=remember),
    )
    if isinstance(served, Before):
        async with parts.queues.pool.acquire() as connection:
            return await _again(connection, caller, UUID(served.response["message_id"]))
    sent = _sent(served[0])
    if isinstance(sent, ZapHubError):
        raise sent
    return sent


async def send_batch(
    parts: Resources, caller: Principal, connection_id: UUID, items: Sequence[Any], keyed: KeyedRequest | None
) -> list[Ready]:
    """Accept each message that can be, all in one transaction: `index` and `message` or `error`, in the same order.

    Raises NotFound, and Conflict when another body had this idempotency key.
    """
    read = [_parsed(item, index) for index, item in enumerate(items)]
    asked = [one if isinstance(one, Problem | ZapHubError) else _request(one) for one in read]
    parsed = await with_files(parts, caller, connection_id, asked)
    right = [one for one in parsed if isinstance(one, SendRequest)]

    def merged(results: Sequence[Result]) -> list[Sent | ZapHubError | Problem]:
        accepted = (_sent(result) for result in results)
        return [one if isinstance(one, Problem | ZapHubError) else next(accepted) for one in parsed]

    def remember(results: Sequence[Result]) -> dict[str, Any]:
        return {"results": [_reference(index, one) for index, one in enumerate(merged(results))]}

    served = await parts.queues.accept(_ask(caller, connection_id, right, keyed=keyed, remember=remember))
    if isinstance(served, Before):
        async with parts.queues.pool.acquire() as connection:
            return [await _shown_again(connection, caller, one) for one in served.response["results"]]
    return [_shown(index, one) for index, one in enumerate(merged(served))]


async def settled(parts: Resources, caller: Principal, sent: Sent, *, wait_s: float) -> Ready | None:
    """The message once it has settled, or None when it has not within `wait_s` seconds."""
    message_id = MessageId(sent.id)

    async def look() -> bool | None:
        status = await lifecycle.message_status(parts.queues.pool, message_id)
        return True if status is None or status in SETTLED else None

    if not await poll(parts, look, wait_s=wait_s):
        return None
    async with parts.queues.pool.acquire() as connection:
        return (await _again(connection, caller, message_id)).message_json


def _ask(
    caller: Principal,
    connection_id: UUID,
    requests: Sequence[SendRequest],
    *,
    keyed: KeyedRequest | None,
    remember: Callable[[Sequence[Result]], Any],
) -> Ask:
    return Ask(
        connection_id=connection_id,
        tenant_id=caller.tenant_id,
        allowed=caller.connection_ids,
        requests=requests,
        keyed=keyed,
        remember=remember,
    )


def _parsed(item: Any, index: int) -> AnySend | Problem:  # noqa: ANN401 - any JSON
    try:
        parsed: AnySend = _PARSE.validate_python(item)
    except ValidationError as error:
        wrong = [wrong_value({**one, "loc": ("body", *one["loc"])}) for one in error.errors(include_url=False)]
        return invalid([_within(one, index) for one in wrong])
    return parsed


def _within(error: InvalidInput, index: int) -> InvalidInput:
    """The same error, with its place in the body of a batch."""
    return InvalidInput(error.detail, pointer=f"/messages/{index}{error.pointer}", code=error.public_code)


def _request(wanted: AnySend) -> SendRequest:
    return SendRequest(
        to=str(wanted.to),
        type=MessageType(wanted.type),
        payload=content.plain(wanted.payload),
        message_id=wanted.message_id,
        priority=wanted.priority,
        send_at=wanted.send_at,
        ttl_seconds=wanted.ttl_seconds,
        keeps_order=wanted.order is Order.CHAT,
        reply_to=wanted.reply_to,
        mentions=tuple(str(one) for one in wanted.mentions),
        waits_offline=wanted.if_offline == "park",
        on_unknown=wanted.on_unknown,
        metadata=wanted.metadata,
    )


def _sent(result: Result) -> Sent | Conflict:
    if isinstance(result, Conflict):
        return result
    return Sent(id=result.id, message_json=Ready(result.message_json), job=result.job, deduplicated=result.deduplicated)


def _shown(index: int, result: Sent | ZapHubError | Problem) -> Ready:
    if isinstance(result, Sent):
        return object_of({"index": index, "message": result.message_json, "deduplicated": result.deduplicated})
    return object_of({"index": index, "error": _error(index, result)})


def _error(index: int, error: ZapHubError | Problem) -> dict[str, Any]:
    problem = to_problem(_within(error, index) if isinstance(error, InvalidInput) else error)
    assert problem is not None, "a refusal is no fault of ours"
    return problem.summary()


def _reference(index: int, result: Sent | ZapHubError | Problem) -> dict[str, Any]:
    """What a repeat needs in order to be answered alike: the message's id, or the error as it was."""
    if isinstance(result, Sent):
        return {"index": index, "message_id": str(result.id)}
    return {"index": index, "error": _error(index, result)}


async def _shown_again(connection: Connection, caller: Principal, reference: Mapping[str, Any]) -> Ready:
    if "error" in reference:
        return object_of(reference)
    return _shown(reference["index"], await _again(connection, caller, UUID(reference["message_id"])))


async def _again(connection: Connection, caller: Principal, message_id: UUID) -> Sent:
    """A message that was accepted before, as it is now. Raises NotFound when retention took it."""
    message = await messages.get_object(
        connection, message_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    if message is None:
        raise NotFound("The message that this request made is gone.")
    job = await admin.get_job(connection, f"msg-send-{message_id}")
    return Sent(
        id=message_id,
        message_json=object_of(message),
        job=None if job is None else Enqueued(pk=job.pk, job_id=job.id, state=job.state, deduplicated=True),
        deduplicated=True,
    )
