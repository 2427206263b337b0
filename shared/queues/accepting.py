"""Accept sends: the messages of many requests, with their events and jobs, in one transaction; each client id once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID, uuid4

from shared.db import accepting, idempotency
from shared.db.accepting import NewMessage
from shared.db.idempotency import Standing
from shared.db.pool import Record
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import ConnectionId, MessageId
from shared.domain.jid import Jid, Server, parse_jid
from shared.domain.jobs import Enqueued, JobState, NewJob, QueueName
from shared.domain.session import REFUSES_SENDS, SessionStatus
from shared.queues.policies import POLICIES
from shared.queues.send_requests import Answer, Ask, Held, Result, SendRequest, SendResult

if TYPE_CHECKING:
    from shared.queues.runtime import Transaction

_POLICY: Final = POLICIES[QueueName.MESSAGE_SEND]
_OFFLINE: Final = {
    SessionStatus.LOGGED_OUT: "CONNECTION_LOGGED_OUT",
    SessionStatus.REPLACED: "CONNECTION_REPLACED",
    SessionStatus.BANNED: "CONNECTION_BANNED",
}


@dataclass(frozen=True, slots=True)
class _New:
    """A message of this transaction; `is_again` when another request of it, an earlier one, made it."""

    row: NewMessage
    priority: int
    is_again: bool = False


Verdict: TypeAlias = _New | Result


async def accept(
    tx: "Transaction", asks: Sequence[Ask], *, default_ttl_s: int, waits: bool = True, now: datetime | None = None
) -> list[Answer]:
    """Accept the messages in the caller's transaction, in order, and say what became of each ask.

    The asks name no idempotency key twice. `default_ttl_s` 0: a message never expires. Without `waits` an ask whose
    connection or key another transaction holds is `Held`. The transaction has locked nothing before.
    """
    now = now or datetime.now(UTC)
    answers, begun = await _standing(tx, asks, waits=waits)
    locked = await _locked(tx, asks, answers, waits=waits)
    judge = await _Judge.of(tx, locked, default_ttl_s=default_ttl_s, now=now)
    verdicts = {place: judge.verdicts(ask, row) for place, (ask, row) in locked.items()}
    made = await _make(tx, judge.new)
    for place, of_ask in verdicts.items():
        answers[place] = [_result(made, one) if isinstance(one, _New) else one for one in of_ask]
    await _keep(tx, begun, answers)
    return [answer for answer in answers if answer is not None]


async def _standing(
    tx: "Transaction", asks: Sequence[Ask], *, waits: bool
) -> tuple[list[Answer | None], dict[int, Ask]]:
    """The answers that idempotency keys give, None for all others; and by their places the asks that began a key."""
    answers: list[Answer | None] = [None] * len(asks)
    begun = {place: ask for place, ask in enumerate(asks) if ask.keyed is not None}
    if begun:
        requests = [ask.keyed for ask in begun.values() if ask.keyed is not None]
        standings = await idempotency.begin_all(tx.connection, requests, waits=waits)
        for place, standing in zip(list(begun), standings, strict=True):
            if standing is not Standing.FIRST:
                answers[place] = Held.KEY if standing is Standing.BUSY else standing
                del begun[place]
    return answers, begun


async def _locked(
    tx: "Transaction", asks: Sequence[Ask], answers: list[Answer | None], *, waits: bool
) -> dict[int, tuple[Ask, Record]]:
    """By their places, the asks that may go on, each with its connection; the others are answered."""
    open_ = {place: ask for place, ask in enumerate(asks) if answers[place] is None}
    rows = await accepting.lock(
        tx.connection, {ask.connection_id for ask in open_.values()}, queue_id=_POLICY.id, waits=waits
    )
    locked = {}
    for place, ask in open_.items():
        row = rows[ask.connection_id]
        if row["is_busy"]:
            answers[place] = Held.CONNECTION
        elif ask.sees(row):
            locked[place] = (ask, row)
        else:
            answers[place] = NotFound("There is no such connection.")
    return locked


async def _keep(tx: "Transaction", begun: Mapping[int, Ask], answers: Sequence[Answer | None]) -> None:
    """Finish the keys that this transaction began; those of asks that were not served are free again."""
    kept = []
    for place, ask in begun.items():
        answer = answers[place]
        assert ask.keyed is not None
        kept.append((ask.keyed, ask.remember(answer) if isinstance(answer, Sequence) else None))
    await idempotency.finish_all(tx.connection, kept)


class _Judge:
    """Decides of each request of a transaction what becomes of it, from what was read; `new` are the rows to make."""

    def __init__(
        self,
        taken: Mapping[tuple[UUID, str], Record],
        chats: Mapping[tuple[UUID, str], str],
        *,
        default_ttl_s: int,
        now: datetime,
    ) -> None:
        self._taken = taken
        self._chats = chats
        self._default_ttl_s = default_ttl_s
        self._now = now
        self._of_client_id: dict[tuple[UUID, str], _New] = {}
        self.new: list[_New] = []

    @classmethod
    async def of(
        cls, tx: "Transaction", locked: Mapping[int, tuple[Ask, Record]], *, default_ttl_s: int, now: datetime
    ) -> "_Judge":
        """Read what the verdicts need: client ids that are taken, chats of aliases."""
        requests = [(ask.connection_id, request) for ask, _ in locked.values() for request in ask.requests]
        ids = sorted({(connection, one.message_id) for connection, one in requests if one.message_id is not None})
        aliases = sorted({(connection, str(chat)) for connection, one in requests if (chat := _alias(one)) is not None})
        taken = await accepting.taken(tx.connection, ids) if ids else {}
        chats = await accepting.chats(tx.connection, aliases) if aliases else {}
        return cls(taken, chats, default_ttl_s=default_ttl_s, now=now)

    def verdicts(self, ask: Ask, row: Record) -> list[Verdict]:
        """What becomes of each of its messages."""
        status = SessionStatus(row["status"])
        connection_id = ConnectionId(ask.connection_id)
        return [self._verdict(connection_id, status, request) for request in ask.requests]

    def _verdict(self, connection_id: ConnectionId, status: SessionStatus, request: SendRequest) -> Verdict:
        if request.message_id is None:
            return _refusal(status, request) or self._new(connection_id, request)
        name = (connection_id, request.message_id)
        # What was accepted before is that message whatever the connection's state is now.
        if name in self._taken:
            return _repeat(self._taken[name], request)
        if name in self._of_client_id:
            earlier = self._of_client_id[name]
            is_same = earlier.row.body_hash == request.body_hash
            return _New(earlier.row, earlier.priority, is_again=True) if is_same else _used_otherwise()
        verdict = _refusal(status, request) or self._new(connection_id, request)
        if isinstance(verdict, _New):
            self._of_client_id[name] = verdict
        return verdict

    def _new(self, connection_id: ConnectionId, request: SendRequest) -> _New:
        new = _New(self._message(connection_id, request), request.priority)
        self.new.append(new)
        return new

    def _message(self, connection_id: ConnectionId, request: SendRequest) -> NewMessage:
        message_id = MessageId(uuid4())
        chat = self._chat(connection_id, request)
        starts_at = max(self._now, request.send_at) if request.send_at else self._now
        ttl_s = self._default_ttl_s if request.ttl_seconds is None else request.ttl_seconds
        return NewMessage(
            id=message_id,
            connection_id=connection_id,
            message_id=request.message_id or str(message_id),
            jid=str(chat),
            phone=chat.phone,
            type=request.type.value,
            payload=dict(request.payload),
            body_hash=request.body_hash,
            reply_to=request.reply_to,
            mentions=list(request.mentions),
            metadata=dict(request.metadata),
            order_key=f"{connection_id}:{chat.chat_key}" if request.keeps_order else None,
            on_unknown=request.on_unknown,
            send_at=request.send_at,
            expires_at=expiry(starts_at, ttl_s),
        )

    def _chat(self, connection_id: ConnectionId, request: SendRequest) -> Jid:
        """The recipient in the spelling that orders its chat: an alias that is known becomes its phone number."""
        chat = parse_jid(request.to)
        known = self._chats.get((connection_id, str(chat))) if chat.server is Server.ALIAS else None
        return parse_jid(known) if known is not None else chat


def _alias(request: SendRequest) -> Jid | None:
    # Parsed only when it may be one: most recipients are numbers.
    chat = parse_jid(request.to) if request.to.endswith(Server.ALIAS) else None
    return chat if chat is not None and chat.server is Server.ALIAS else None


async def _make(tx: "Transaction", new: Sequence[_New]) -> dict[MessageId, SendResult]:
    """Insert the messages and their jobs."""
    if not new:
        return {}
    jobs = await tx.enqueue([_job(one.row, one.priority) for one in new])
    rows = [one.row for one in new]
    made = await accepting.insert(tx.connection, rows, [job.pk for job in jobs], queue_id=_POLICY.id)
    tx.fan_out(*(one.row.connection_id for one in new if made[one.row.id].fan_out))
    return {
        row.id: SendResult(id=row.id, message_json=made[row.id].object, job=job)
        for row, job in zip(rows, jobs, strict=True)
    }


def _result(made: Mapping[MessageId, SendResult], new: _New) -> SendResult:
    result = made[new.row.id]
    if not new.is_again or result.job is None:
        return result
    return replace(result, job=replace(result.job, deduplicated=True), deduplicated=True)


def _repeat(row: Record, request: SendRequest) -> Result:
    if row["body_hash"] != request.body_hash:
        return _used_otherwise()
    job = None
    if row["job_pk"] is not None:
        state = JobState(row["job_state"])
        job = Enqueued(pk=row["job_pk"], job_id=row["job_key"], state=state, deduplicated=True)
    return SendResult(id=row["id"], message_json=row["object"], job=job, deduplicated=True)


def _refusal(status: SessionStatus, request: SendRequest) -> Conflict | None:
    if status in REFUSES_SENDS:
        return Conflict(f"The connection is {status}; POST /connections/{{id}}/start opens it again.")
    if not request.waits_offline and status is not SessionStatus.CONNECTED:
        return Conflict(
            f"The connection is {status}, and the message would not wait. Leave out if_offline and it does.",
            code=_OFFLINE.get(status, "CONNECTION_OFFLINE"),
        )
    return None


def _used_otherwise() -> Conflict:
    return Conflict(
        "This message_id was used with another body. Use a new one for a new message.", code="IDEMPOTENCY_CONFLICT"
    )


def expiry(starts_at: datetime, ttl_s: int) -> datetime | None:
    """When a message that may go from `starts_at` on is too old to be sent; `ttl_s` 0: never."""
    return starts_at + timedelta(seconds=ttl_s) if ttl_s else None


def _job(new: NewMessage, priority: int) -> NewJob:
    message, session = str(new.id), str(new.connection_id)
    return NewJob(
        queue=QueueName.MESSAGE_SEND,
        job_id=f"msg-send-{message}",
        name="send-message",
        data={"messageDbId": message, "sessionId": session, "messageId": new.message_id},
        priority=_POLICY.priority,
        urgency=priority,
        group=session,
        order_key=new.order_key,
        run_at=new.send_at,
        expires_at=new.expires_at,
    )
