"""The file of a message that came in: its message is told at once, the file is fetched by a job of its own.

The job is of `message:receive` and has a name of its own, by which it runs alone and never holds up a batch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import ValidationError

from functions.resources import Resources
from shared.db import hosts
from shared.db import media as rows
from shared.db.hosts import Owner
from shared.db.media import Medium
from shared.db.pool import Connection
from shared.domain.errors import HostUnreachable, NotFound, Unavailable
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Job, NewJob, QueueName
from shared.domain.media import MediaId, MediaState, plain_mimetype, safe_filename
from shared.domain.media_type import UNKNOWN, decide
from shared.domain.outcome import Discard, Done, Failure, Outcome, Retry, Snooze
from shared.domain.session import SessionStatus
from shared.domain.writes import EnqueueJob, ErrorInfo, ExpectMedia, SettleMedia, StoreFromWire, Write
from shared.hosts import protocol
from shared.hosts.protocol import MediaSource
from shared.media.spool import Spooled, TooLarge
from shared.sealing import Sealer

DOWNLOAD: Final = "download-media"
# After the first try: WhatsApp's media hosts come and go.
_RETRY_DELAYS_S: Final = (5.0, 30.0, 120.0, 600.0, 3600.0)
# More than the client's own limits together.
_TIMEOUT_S: Final = 300.0
# Behind every message; what is caught up on after being offline comes last.
_PRIORITY: Final = 2
_BACKFILL_PRIORITY: Final = 1
# WhatsApp keeps files for about as long; a session that is offline for longer will not get them.
_GIVE_UP_S: Final = 14 * 86_400.0
_STORE_AWAY_S: Final = 10.0


def expected(write: StoreFromWire, use: Resources) -> tuple[StoreFromWire, tuple[Write, ...]]:
    """The message as it is stored and told, and what has its file fetched; the same however often it is asked."""
    if "source" not in write.payload:
        return write, ()
    said = dict(write.payload)
    source = _source(said.pop("source"))
    if source is None:
        error = {"code": "MEDIA_BROKEN", "detail": "The message does not say where its file is.", "retryable": False}
        return replace(write, payload={**said, "media_state": MediaState.FAILED.value, "media_error": error}), ()
    media_id = MediaId(
        uuid5(NAMESPACE_URL, f"zaphub:inbound:{write.connection_id}:{write.jid}:{write.sender_jid}:{write.wire_id}")
    )
    public_url = (use.settings.public_url or "").rstrip("/")
    told = {
        **said,
        "media_id": str(media_id),
        "media_state": MediaState.PENDING.value,
        "url": f"{public_url}/media/{media_id}",
    }
    expect = ExpectMedia(
        media_id=media_id,
        connection_id=write.connection_id,
        wire_id=write.wire_id,
        jid=write.jid,
        sender_jid=write.sender_jid,
        mimetype=plain_mimetype(said.get("mimetype")) or UNKNOWN,
        filename=safe_filename(said.get("filename")),
        sha256=source.sha256 or None,
        size=source.size,
        source_sealed=_sealer(use).seal(source.model_dump_json().encode(), context=_context(media_id)),
        keep_days=use.settings.retention_media_days,
    )
    return replace(write, payload=told), (expect, EnqueueJob(job=_job(write, media_id)))


async def download(job: Job, use: Resources) -> Outcome:
    """Fetch one file through the session's host and store it, or say for good that it is not to be had."""
    async with use.pool.acquire() as connection:
        found = await rows.find(connection, UUID(job.data["mediaId"]))
    if found is None:
        return Discard(reason="The file is deleted.")
    if found.state is not MediaState.PENDING or found.source_sealed is None:
        # A try before this one stored it, and died before it said so.
        return Done(result={"success": found.state is MediaState.STORED}, writes=(SettleMedia(media_id=found.id),))
    if found.size is not None and found.size > use.media.max_bytes:
        return _failed(found, "MEDIA_TOO_LARGE", f"The file has more than {use.media.max_bytes} bytes.")
    assert found.connection_id is not None, "a file that came in came through a connection"
    owner = await hosts.owner(use.pool, found.connection_id)
    if owner is None or owner.status != SessionStatus.CONNECTED:
        return await _later(job, found, use)
    if (wait_s := use.downloads.wait_s()) is not None:
        return Snooze(delay_s=wait_s)
    with use.downloads.inside():
        return await _fetch(job, found, owner, use)


def settled(data: Mapping[str, Any], failure: Failure) -> Sequence[Write]:
    """What becomes of the file when its job ended without a word of the handler's."""
    if "mediaId" not in data:
        return ()
    return (_settle(MediaId(UUID(data["mediaId"])), failure.code, failure.detail),)


async def _fetch(job: Job, found: Medium, owner: Owner, use: Resources) -> Outcome:
    assert found.connection_id is not None, "as in download"
    assert found.source_sealed is not None, "as in download"
    source = MediaSource.model_validate_json(_sealer(use).open(found.source_sealed, context=_context(found.id)))
    command = protocol.Download(connection_id=found.connection_id, epoch=owner.epoch, source=source)
    try:
        async with use.media.spool() as spool:
            refusal = await use.hosts.download(owner, command, spool.write)
            if refusal is not None:
                return await _refused(job, found, refusal, use)
            return await _store(found, await spool.finish(), use)
    except TooLarge as error:
        return _failed(found, error.public_code, error.detail)
    except HostUnreachable as error:
        return _again(job, found, Failure(code=error.public_code, detail=error.detail))
    except Unavailable:
        # Our own store or database: the file loses no try over it.
        return Snooze(delay_s=_STORE_AWAY_S)


async def _store(found: Medium, spooled: Spooled, use: Resources) -> Outcome:
    if found.sha256 is not None and found.sha256 != spooled.sha256:
        return _failed(found, "MEDIA_BROKEN", "The file is not the one that its message speaks of.")
    mimetype = decide(spooled.beginning, found.mimetype)

    async def record(connection: Connection, key: str) -> None:
        if not await rows.store_expected(
            connection, found.id, object_key=key, sha256=spooled.sha256, size=spooled.size, mimetype=mimetype
        ):
            raise NotFound("The file is deleted.")

    try:
        await use.media.keep(spooled, record)
    except NotFound as error:
        return Discard(reason=error.detail)
    return Done(result={"success": True, "bytes": spooled.size}, writes=(SettleMedia(media_id=found.id),))


async def _refused(job: Job, found: Medium, refusal: protocol.NoFile, use: Resources) -> Outcome:
    match refusal:
        case protocol.Refused(permanent=True):
            return _failed(found, refusal.code, refusal.detail)
        case protocol.Refused():
            return _again(job, found, Failure(code=refusal.code, detail=refusal.detail))
        case protocol.NotOwner() | protocol.NotConnected():
            return await _later(job, found, use)
        case _:
            assert_never(refusal)


async def _later(job: Job, found: Medium, use: Resources) -> Outcome:
    """The session is offline: look again after half of the time that it waits already, 2 s to 5 minutes."""
    async with use.pool.acquire() as connection:
        if await rows.is_of_deleted(connection, found.id):
            return _failed(found, "MEDIA_EXPIRED", "The connection was deleted before the file was fetched.")
    waited_s = (use.now() - job.created_at).total_seconds()
    if waited_s > _GIVE_UP_S:
        return _failed(found, "MEDIA_EXPIRED", "The connection was offline for as long as WhatsApp keeps files.")
    return Snooze(delay_s=min(max(waited_s / 2, 2.0), 300.0))


def _again(job: Job, found: Medium, failure: Failure) -> Outcome:
    delay_s = _RETRY_DELAYS_S[min(job.attempt, len(_RETRY_DELAYS_S)) - 1]
    last = _settle(found.id, "MEDIA_FETCH_FAILED", f"WhatsApp did not give the file: {failure.detail}")
    return Retry(failure=failure, delay_s=delay_s, last_writes=(last,))


def _failed(found: Medium, code: str, detail: str) -> Outcome:
    failure = Failure(code=code, detail=detail, retryable=False)
    return Discard(reason=detail, failure=failure, writes=(_settle(found.id, code, detail),))


def _settle(media_id: MediaId, code: str, detail: str) -> SettleMedia:
    return SettleMedia(media_id=media_id, error=ErrorInfo(code=code, detail=detail, retryable=False))


def _source(said: Any) -> MediaSource | None:  # noqa: ANN401 - a job's data, judged here
    try:
        source = MediaSource.model_validate_json(json.dumps(said))
    except ValidationError:
        return None
    return source if source.direct_path and source.media_key else None


def _job(write: StoreFromWire, media_id: MediaId) -> NewJob:
    session = str(ConnectionId(write.connection_id))
    return NewJob(
        queue=QueueName.MESSAGE_RECEIVE,
        job_id=f"media-{media_id}",
        name=DOWNLOAD,
        data={"sessionId": session, "mediaId": str(media_id)},
        priority=_BACKFILL_PRIORITY if write.backfilled else _PRIORITY,
        # Sessions take turns; the messages of a session are in another group, and do not wait for its files.
        group=f"media:{session}",
        max_attempts=len(_RETRY_DELAYS_S) + 1,
        timeout_s=_TIMEOUT_S,
    )


def _sealer(use: Resources) -> Sealer:
    return Sealer(use.settings.secret_key)


def _context(media_id: MediaId) -> str:
    return f"media:{media_id}"
