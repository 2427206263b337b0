"""Store messages that came over the wire, each once, and tell whoever subscribed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

from functions.inbound_habits import MARK_READ, Configs, configs_of, dropped, ignored, mark_read, to_mark
from functions.incoming_files import DOWNLOAD, download, expected, settled
from functions.resources import Resources
from functions.work import work
from shared.db import known_numbers, references
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.jid import Server, parse_jid
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
_ALIAS: Final = f"@{Server.ALIAS}"
_WRONG: Final = (KeyError, TypeError, ValueError, AttributeError)
# A vote may be faster than the record of the poll that it is in.
_POLL_UNKNOWN: Final = Failure(code="NOT_FOUND", detail="The poll of this vote is not known yet.")
_TRIES_FOR_POLL: Final = 3


# The JIDs with the numbers of connections' aliases.
Numbers = Mapping[tuple[ConnectionId, str], str]


async def handle(jobs: Sequence[Job], use: Resources) -> Sequence[Outcome]:
    """One row and one event a message; a message that is stored already changes nothing."""
    polls = await _polls(jobs, use)
    numbers = await _numbers(jobs, use)
    configs = await configs_of(jobs, use)
    return [_store(job, polls, numbers, configs, use) for job in jobs]


def _store(
    job: Job, polls: Mapping[str, list[str] | None], numbers: Numbers, configs: Configs, use: Resources
) -> Outcome:
    try:
        if (kind := ignored(job.data, configs)) is not None:
            return dropped(kind)
        if job.job_id in polls and polls[job.job_id] is None and job.attempt < _TRIES_FOR_POLL:
            return Retry(failure=_POLL_UNKNOWN)
        write, of_file = expected(_row(_numbered(_told(job, polls.get(job.job_id)), numbers)), use)
    except _WRONG as error:
        failure = Failure(
            code="VALIDATION_ERROR", detail=f"The job's data are wrong ({type(error).__name__}).", retryable=False
        )
        return Discard(reason=failure.detail, failure=failure)
    writes = (write, *of_file, *to_mark(write, configs))
    return Done(result={"success": True, "waMessageId": write.wire_id}, writes=writes)


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


async def _numbers(jobs: Sequence[Job], use: Resources) -> Numbers:
    """The numbers of chats and writers that came with their aliases alone, as far as an earlier message told them."""
    lids: set[tuple[ConnectionId, str]] = set()
    for job in jobs:
        with suppress(*_WRONG):
            session = ConnectionId(UUID(job.data["sessionId"]))
            names = (job.data.get("chat"), job.data["from"])
            lids |= {(session, jid) for jid in names if jid is not None and jid.endswith(_ALIAS)}
    if not lids:
        return {}
    async with use.pool.acquire() as connection:
        return await known_numbers.numbers_of(connection, sorted(lids))


def _numbered(data: Mapping[str, Any], numbers: Numbers) -> Mapping[str, Any]:
    """The job's data by number, with the aliases beside them."""
    if not numbers:
        return data
    session, named = ConnectionId(UUID(data["sessionId"])), dict(data)
    for name, alias in (("chat", "chatAlias"), ("from", "senderAlias")):
        if (number := numbers.get((session, named.get(name) or ""))) is not None:
            named |= {alias: named[name], name: number}
    if named.get("participant") is not None:
        named["participant"] = named["from"]
    return named


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
        sender_alias=data.get("senderAlias"),
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


queue = work(
    QueueName.MESSAGE_RECEIVE, handle, batch=True, alone={DOWNLOAD: download, MARK_READ: mark_read}, on_ended=settled
)
task, broker, handler = queue.task, queue.broker, queue.handler
