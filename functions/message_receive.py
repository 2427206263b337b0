"""Store messages that came over the wire, each once, and tell whoever subscribed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

from functions.incoming_files import DOWNLOAD, download, expected, settled
from functions.resources import Resources
from functions.work import work
from shared.db import references
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.jid import parse_jid
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry
from shared.domain.writes import StoreFromWire

_EVENTS: Final = {
    "edit": "message.edited",
    "revoke": "message.revoked",
    "reaction": "message.reaction",
    "poll_vote": "message.poll_vote",
}
_FROM_ME: Final = "message.sent"
_WRONG: Final = (KeyError, TypeError, ValueError, AttributeError)
# A vote may be faster than the record of the poll that it is in.
_POLL_UNKNOWN: Final = Failure(code="NOT_FOUND", detail="The poll of this vote is not known yet.")
_TRIES_FOR_POLL: Final = 3


async def handle(jobs: Sequence[Job], use: Resources) -> Sequence[Outcome]:
    """One row and one event a message; a message that is stored already changes nothing."""
    polls = await _polls(jobs, use)
    return [_store(job, polls, use) for job in jobs]


def _store(job: Job, polls: Mapping[str, list[str] | None], use: Resources) -> Outcome:
    try:
        if job.job_id in polls and polls[job.job_id] is None and job.attempt < _TRIES_FOR_POLL:
            return Retry(failure=_POLL_UNKNOWN)
        write, of_file = expected(_row(_told(job, polls.get(job.job_id))), use)
    except _WRONG as error:
        failure = Failure(
            code="VALIDATION_ERROR", detail=f"The job's data are wrong ({type(error).__name__}).", retryable=False
        )
        return Discard(reason=failure.detail, failure=failure)
    return Done(result={"success": True, "waMessageId": write.wire_id}, writes=(write, *of_file))


async def _polls(jobs: Sequence[Job], use: Resources) -> dict[str, list[str] | None]:
    """The options of the polls that are voted in, by the id of the vote's job."""
    votes: dict[str, tuple[ConnectionId, WireId]] = {}
    for job in jobs:
        with suppress(*_WRONG):
            if job.data["type"] == "poll_vote" and job.data["content"].get("option_hashes") is not None:
                session = ConnectionId(UUID(job.data["sessionId"]))
                votes[job.job_id] = (session, WireId(job.data["content"]["message_id"]))
    if not votes:
        return {}
    async with use.pool.acquire() as connection:
        options = await references.options_of_polls(connection, list(votes.values()))
    return dict(zip(votes, options, strict=True))


def _told(job: Job, options: Sequence[str] | None) -> Mapping[str, Any]:
    """The job's data, of a vote with the names of the options that were chosen; None where nobody can name them.

    Only the poll's secret opens a vote, and only the poll's row names what its hashes stand for.
    """
    if job.data["type"] != "poll_vote":
        return job.data
    hashes = job.data["content"].get("option_hashes")
    content = {"message_id": job.data["content"]["message_id"], "options": None}
    if hashes is not None and options is not None:
        names = {sha256(name.encode()).hexdigest(): name for name in options}
        content["options"] = [names[one] for one in hashes if one in names]
    elif hashes is not None:
        content["option_hashes"] = hashes
    return {**job.data, "content": content}


def _row(data: Any) -> StoreFromWire:  # noqa: ANN401 - a job's data, judged here
    from_me = bool(data.get("fromMe", False))
    chat = data.get("chat") or data["from"]
    payload = dict(data["content"])
    reply_to, mentions = payload.pop("reply_to", None), payload.pop("mentions", None)
    return StoreFromWire(
        message_id=MessageId(uuid4()),
        connection_id=ConnectionId(UUID(data["sessionId"])),
        wire_id=WireId(data["waMessageId"]),
        jid=chat,
        phone=_phone(chat),
        alias_jid=data.get("chatAlias"),
        sender_jid=data["from"],
        wire_sender=data.get("wireSender"),
        participant=data.get("participant"),
        push_name=data.get("pushName"),
        from_me=from_me,
        type=data["type"],
        payload=payload,
        reply_to=reply_to,
        mentions=tuple(mentions or ()),
        at=datetime.fromtimestamp(data["timestamp"] / 1000, UTC),
        backfilled=bool(data.get("backfilled", False)),
        event_type=_EVENTS.get(data["type"]) or (_FROM_ME if from_me else "message.received"),
    )


def _phone(jid: str) -> str | None:
    try:
        return parse_jid(jid).phone
    except InvalidInput:
        # A newsletter, a broadcast list: a chat all the same, without a number.
        return None


queue = work(QueueName.MESSAGE_RECEIVE, handle, batch=True, alone={DOWNLOAD: download}, on_ended=settled)
task, broker, handler = queue.task, queue.broker, queue.handler
