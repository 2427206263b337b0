"""What `send` and `send/batch` do: judge the connection, then message, event and job in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from api.auth import Principal
from api.inputs import AnySend, Order, Send
from api.problems import Problem, invalid, to_problem, wrong_value
from api.resources import Resources
from api.waiting import poll
from shared.db import connections, idempotency, lifecycle, messages
from shared.db.idempotency import KeyedRequest
from shared.db.pool import Connection, Record
from shared.domain import content
from shared.domain.errors import Conflict, InvalidInput, NotFound, ZapHubError
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.jobs import Enqueued
from shared.domain.message import SETTLED, MessageType
from shared.domain.session import REFUSES_SENDS, SessionStatus
from shared.failpoints import reach
from shared.queues import admin, sends
from shared.queues.runtime import Transaction
from shared.queues.sends import SendRequest, SendResult

_PARSE: Final[TypeAdapter[Any]] = TypeAdapter(Send)
_OFFLINE: Final = {
    SessionStatus.LOGGED_OUT: "CONNECTION_LOGGED_OUT",
    SessionStatus.REPLACED: "CONNECTION_REPLACED",
    SessionStatus.BANNED: "CONNECTION_BANNED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was accepted, now or, if `deduplicated`, before."""

    message: dict[str, Any]
    job: Enqueued | None
    deduplicated: bool


async def send(
    parts: Resources, caller: Principal, connection_id: UUID, wanted: AnySend, keyed: KeyedRequest | None
) -> Sent:
    """Accept one message.

    Raises NotFound, InvalidInput for a type that is not sent yet, and Conflict: another body had this message id or
    key, the connection refuses sends, or it is offline and the message would not wait.
    """
    async with parts.queues.transaction() as tx:
        before = keyed and await idempotency.begin(tx.connection, keyed)
        if before:
            return await _again(tx.connection, caller, UUID(before["message_id"]))
        row = await _locked(tx.connection, caller, connection_id)
        [result] = await _accept(tx, parts, row, [wanted])
        if isinstance(result, ZapHubError):
            raise result
        if keyed:
            await idempotency.finish(tx.connection, keyed, {"message_id": result.message["id"]})
        reach("api_before_commit")
    reach("api_after_commit")
    return result


async def send_batch(
    parts: Resources, caller: Principal, connection_id: UUID, items: Sequence[Any], keyed: KeyedRequest | None
) -> list[dict[str, Any]]:
    """Accept each message that can be, all in one transaction: `index` and `message` or `error`, in the same order.

    Raises NotFound, and Conflict when another body had this idempotency key.
    """
    parsed = [_parsed(item, index) for index, item in enumerate(items)]
    async with parts.queues.transaction() as tx:
        before = keyed and await idempotency.begin(tx.connection, keyed)
        if before:
            return [await _shown_again(tx.connection, caller, one) for one in before["results"]]
        row = await _locked(tx.connection, caller, connection_id)
        right = [one for one in parsed if not isinstance(one, Problem)]
        accepted = iter(await _accept(tx, parts, row, right))
        results = [
            _shown(index, one if isinstance(one, Problem) else next(accepted)) for index, one in enumerate(parsed)
        ]
        if keyed:
            await idempotency.finish(tx.connection, keyed, {"results": [_reference(one) for one in results]})
        return results


async def settled(parts: Resources, caller: Principal, sent: Sent, *, wait_s: float) -> dict[str, Any] | None:
    """The message once it has settled, or None when it has not within `wait_s` seconds."""
    message_id = MessageId(UUID(sent.message["id"]))

    async def look() -> bool | None:
        status = await lifecycle.message_status(parts.queues.pool, message_id)
        return True if status is None or status in SETTLED else None

    if not await poll(parts, look, wait_s=wait_s):
        return None
    async with parts.queues.pool.acquire() as connection:
        return (await _again(connection, caller, message_id)).message


async def _accept(
    tx: Transaction, parts: Resources, row: Record, wanted: Sequence[AnySend]
) -> list[Sent | ZapHubError]:
    """Each message as it was accepted, or why not."""
    status = SessionStatus(row["status"])
    taken = await _taken_ids(tx.connection, row["id"], wanted)
    # What was accepted before is that message whatever the connection's state is now.
    refusals = [None if one.message_id in taken else _refusal(status, one) for one in wanted]
    accepted = iter(
        await sends.enqueue_sends(
            tx,
            row["id"],
            [_request(one) for one, refusal in zip(wanted, refusals, strict=True) if refusal is None],
            default_ttl_s=parts.settings.send_ttl_seconds,
        )
    )
    return [_sent(next(accepted)) if refusal is None else refusal for refusal in refusals]


async def _taken_ids(connection: Connection, connection_id: ConnectionId, wanted: Sequence[AnySend]) -> set[str]:
    ids = [one.message_id for one in wanted if one.message_id is not None]
    return {row["message_id"] for row in await messages.by_client_ids(connection, connection_id, ids)} if ids else set()


def _refusal(status: SessionStatus, wanted: AnySend) -> ZapHubError | None:
    if wanted.type not in content.SENDABLE:
        types = ", ".join(sorted(content.SENDABLE))
        return InvalidInput(f"This version sends these types: {types}.", pointer="/type")
    if status in REFUSES_SENDS:
        return Conflict(f"The connection is {status}; POST /connections/{{id}}/start opens it again.")
    if wanted.if_offline == "reject" and status is not SessionStatus.CONNECTED:
        return Conflict(
            f"The connection is {status}, and the message would not wait. Leave out if_offline and it does.",
            code=_OFFLINE.get(status, "CONNECTION_OFFLINE"),
        )
    return None


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
        on_unknown=wanted.on_unknown,
        metadata=wanted.metadata,
    )


def _sent(result: SendResult) -> Sent | ZapHubError:
    if result.is_conflict:
        return Conflict(
            "This message_id was used with another body. Use a new one for a new message.", code="IDEMPOTENCY_CONFLICT"
        )
    return Sent(message=result.message, job=result.job, deduplicated=result.deduplicated)


def _shown(index: int, result: Sent | ZapHubError | Problem) -> dict[str, Any]:
    if isinstance(result, Sent):
        return {"index": index, "message": result.message, "deduplicated": result.deduplicated}
    error = _within(result, index) if isinstance(result, InvalidInput) else result
    problem = to_problem(error)
    assert problem is not None, "a refusal is no fault of ours"
    return {"index": index, "error": problem.summary()}


def _reference(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What a repeat needs in order to be answered alike: the message's id, or the error as it was."""
    if "error" in shown:
        return dict(shown)
    return {"index": shown["index"], "message_id": shown["message"]["id"]}


async def _shown_again(connection: Connection, caller: Principal, reference: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in reference:
        return dict(reference)
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
        message=message,
        job=None if job is None else Enqueued(pk=job.pk, job_id=job.id, state=job.state, deduplicated=True),
        deduplicated=True,
    )


async def _locked(connection: Connection, caller: Principal, connection_id: UUID) -> Record:
    row = await connections.lock(connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    if row is None or row["deleted_at"] is not None:
        raise NotFound("There is no such connection.")
    return row
