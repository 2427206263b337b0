"""What each call about a connection changes, in one transaction each: rows, event and job together or none of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from api import connection_proxies, connection_webhooks
from api.auth import Principal
from api.inputs import CreateConnection, PatchConnection
from api.resources import Resources
from shared.db import connections, idempotency, lifecycle, message_bulk, messages
from shared.db.idempotency import KeyedRequest
from shared.db.pool import TAKEN, Connection, Record
from shared.domain.connection_config import ConnectionConfig
from shared.domain.errors import Conflict, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.jobs import Enqueued, JobState, QueueName
from shared.domain.message import MessageStatus
from shared.domain.session import SessionStatus, may_move
from shared.egress.target import Target
from shared.queues import admin, ledger, new_jobs
from shared.queues.paces import fit as fit_paces
from shared.queues.policies import POLICIES
from shared.queues.runtime import Transaction
from shared.sealing import Sealer
from shared.webhooks import endpoints

# So many waiting messages of a deleted connection are cancelled by one statement.
_CANCEL_BATCH: Final = 1000
# A start takes a connection out of these; in the others a host works on it already, or will.
_AT_REST: Final = frozenset(
    {
        SessionStatus.CLOSED,
        SessionStatus.FAILED,
        SessionStatus.LOGGED_OUT,
        SessionStatus.REPLACED,
        SessionStatus.BANNED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A connection after a call, and the job that does the rest. `webhook_secret` is there once, when it was made.

    `is_repeated`: an earlier request with the same idempotency key made it.
    """

    connection: dict[str, Any]
    job: Enqueued | None = None
    queue: QueueName = QueueName.SESSION_INIT
    webhook_secret: str | None = None
    is_repeated: bool = False


async def create(parts: Resources, caller: Principal, wanted: CreateConnection, keyed: KeyedRequest | None) -> Changed:
    """Create a connection and have it opened.

    Raises InvalidInput for a webhook that may not be, Conflict when the external id or the idempotency key is taken.
    """
    target = await connection_webhooks.judge(parts, wanted.webhook_url)
    await connection_proxies.judge(parts, wanted.config)
    async with parts.queues.transaction() as tx:
        return await create_within(tx, parts, caller, wanted, keyed, target=target)


async def create_within(
    tx: Transaction,
    parts: Resources,
    caller: Principal,
    wanted: CreateConnection,
    keyed: KeyedRequest | None,
    *,
    target: Target | None = None,
) -> Changed:
    """`create` in the caller's transaction, for a webhook URL that was judged.

    Raises Conflict as it does, and NotFound when an earlier request made the connection and it was deleted since.
    """
    made_before = keyed and await idempotency.begin(tx.connection, keyed)
    if made_before:
        return await _made_before(tx, caller, UUID(made_before["connection_id"]))
    connection_id = ConnectionId(uuid4())
    if wanted.external_id is not None:
        await lifecycle.release_external_id(tx.connection, wanted.external_id, tenant_id=caller.tenant_id)
    if not await connections.insert(
        tx.connection,
        connection_id,
        tenant_id=caller.tenant_id,
        label=wanted.label,
        external_id=wanted.external_id,
        config=wanted.config.to_store(),
        metadata=wanted.metadata,
        pairing_method=wanted.pairing.method.value,
        pairing_phone=wanted.pairing.phone,
    ):
        raise _external_id_taken()
    await _limit(tx.connection, connection_id, wanted.config)
    if wanted.config.proxy is not None:
        await connection_proxies.keep(tx.connection, parts, connection_id, wanted.config)
    registered = target and await endpoints.create_for_connection(
        tx.connection,
        connection_id,
        target,
        sealer=Sealer(parts.settings.secret_key),
        secret=wanted.webhook_secret.get_secret_value() if wanted.webhook_secret else None,
        tenant_id=caller.tenant_id,
    )
    changed = await _open(tx, connection_id)
    if keyed:
        await idempotency.finish(tx.connection, keyed, {"connection_id": str(connection_id)})
    return Changed(
        connection=changed.connection, job=changed.job, webhook_secret=registered.new_secret if registered else None
    )


async def patch(parts: Resources, caller: Principal, connection_id: UUID, wanted: PatchConnection) -> Changed:
    """Change what is given. Raises NotFound, InvalidInput, and Conflict when another connection has the external id."""
    target = await connection_webhooks.judge(parts, wanted.webhook_url)
    await connection_proxies.judge(parts, wanted.config)
    async with parts.queues.transaction() as tx:
        row = await _locked(tx, caller, connection_id)
        given = wanted.model_fields_set
        external_id = wanted.external_id if "external_id" in given else row["external_id"]
        if external_id is not None and external_id != row["external_id"]:
            await lifecycle.release_external_id(tx.connection, external_id, tenant_id=caller.tenant_id)
            if await lifecycle.is_external_id_taken(
                tx.connection, external_id, tenant_id=caller.tenant_id, besides=row["id"]
            ):
                raise _external_id_taken()
        try:
            await lifecycle.update(
                tx.connection,
                row["id"],
                label=row["label"] if wanted.label is None else wanted.label,
                external_id=external_id,
                config=row["config"] if wanted.config is None else wanted.config.to_store(),
                metadata=row["metadata"] if wanted.metadata is None else wanted.metadata,
            )
        except TAKEN:
            # Whoever has it by now took it since we looked.
            raise _external_id_taken() from None
        if wanted.config is not None:
            await _limit(tx.connection, row["id"], wanted.config)
            await connection_proxies.keep(tx.connection, parts, row["id"], wanted.config)
            tx.ring(QueueName.MESSAGE_SEND)
        secret = await connection_webhooks.keep(tx.connection, parts, caller, row["id"], wanted, target)
        return Changed(connection=await lifecycle.shown(tx.connection, row["id"]), webhook_secret=secret)


async def start(parts: Resources, caller: Principal, connection_id: UUID, *, anew: bool = False) -> Changed:
    """Have it opened; `anew` closes a socket that is open first. While an opening is pending it is that one."""
    async with parts.queues.transaction() as tx:
        row = await _locked(tx, caller, connection_id)
        await connections.set_desired(tx.connection, row["id"], online=True)
        status = SessionStatus(row["status"])
        if status in _AT_REST and may_move(status, SessionStatus.INITIALIZING):
            moved = await connections.move(tx.connection, row["id"], SessionStatus.INITIALIZING, reason="start")
            if moved.fan_out:
                tx.fan_out(row["id"])
        return await _open(tx, row["id"], anew=anew)


async def close(parts: Resources, caller: Principal, connection_id: UUID, *, reason: str) -> Changed:
    """Have it closed (`stop`) or unlinked (`logout`). While a close for this reason is pending it is that one."""
    async with parts.queues.transaction() as tx:
        row = await _locked(tx, caller, connection_id)
        await connections.set_desired(tx.connection, row["id"], online=False)
        job = await _close(tx, row["id"], reason)
        return Changed(
            connection=await lifecycle.shown(tx.connection, row["id"]), job=job, queue=QueueName.SESSION_CLOSE
        )


async def set_paused(parts: Resources, caller: Principal, connection_id: UUID, *, paused: bool) -> Changed:
    """Let its sends wait, or go on; it stays online either way."""
    async with parts.queues.transaction() as tx:
        row = await _locked(tx, caller, connection_id)
        await connections.set_paused(tx.connection, row["id"], paused=paused)
        if not paused:
            tx.ring(QueueName.MESSAGE_SEND)
        return Changed(connection=await lifecycle.shown(tx.connection, row["id"]))


async def delete(parts: Resources, caller: Principal, connection_id: UUID) -> Changed:
    """Hide it, cancel what waits, have it unlinked and closed. Again, while that close is pending, it is the same."""
    async with parts.queues.transaction() as tx:
        return await delete_within(tx, caller, connection_id)


async def delete_within(tx: Transaction, caller: Principal, connection_id: UUID) -> Changed:
    """`delete` in the caller's transaction."""
    row = await _locked(tx, caller, connection_id, even_deleted=True)
    shown = await lifecycle.shown(tx.connection, row["id"])
    if row["deleted_at"] is not None:
        job = await _pending_close(tx, row["id"], "delete")
        if job is None:
            raise NotFound("There is no such connection.")
        return Changed(connection=shown, job=job, queue=QueueName.SESSION_CLOSE)
    await ledger.cancel(tx.connection, job_id=f"session-init-{row['id']}", reason="the connection was deleted")
    # Its close is enqueued before messages are touched, as groups are locked before messages.
    job = await _close(tx, row["id"], "delete")
    await _cancel_waiting(tx, row["id"])
    await lifecycle.delete(tx.connection, row["id"])
    return Changed(connection=shown, job=job, queue=QueueName.SESSION_CLOSE)


async def _made_before(tx: Transaction, caller: Principal, connection_id: UUID) -> Changed:
    """What an earlier request with the same key made, as it is now; its owner may have closed it, so nothing opens."""
    found = await connections.get_object(
        tx.connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    if found is None:
        raise NotFound("The connection that this request made is deleted. Use a new key for a new one.")
    job = await admin.get_job(tx.connection, f"session-init-{connection_id}")
    opening = None if job is None else Enqueued(pk=job.pk, job_id=job.id, state=job.state, deduplicated=True)
    return Changed(connection=found, job=opening, is_repeated=True)


async def _open(tx: Transaction, connection_id: ConnectionId, *, anew: bool = False) -> Changed:
    """Enqueue `session:init` with its event, or return the one that is pending."""
    shown = await lifecycle.shown(tx.connection, connection_id)
    data = {"sessionId": str(connection_id), "label": shown["label"], "config": shown["config"]}
    [job] = await tx.enqueue([new_jobs.session_init({**data, "restart": True} if anew else data)])
    if not job.deduplicated:
        await _record(tx, connection_id, "session.init_queued", {"jobId": job.job_id})
    return Changed(connection=shown, job=job)


async def _close(tx: Transaction, connection_id: ConnectionId, reason: str) -> Enqueued:
    """Enqueue `session:close` with its event, or return the one that is pending for this reason."""
    pending = await _pending_close(tx, connection_id, reason)
    if pending is not None:
        return pending
    [job] = await tx.enqueue([new_jobs.session_close({"sessionId": str(connection_id), "reason": reason})])
    await _record(tx, connection_id, "session.close_queued", {"jobId": job.job_id, "reason": reason})
    return job


async def _pending_close(tx: Transaction, connection_id: ConnectionId, reason: str) -> Enqueued | None:
    found = await lifecycle.living_close_job(
        tx.connection, connection_id, queue_id=POLICIES[QueueName.SESSION_CLOSE].id, reason=reason
    )
    if found is None:
        return None
    return Enqueued(pk=found["pk"], job_id=found["job_key"], state=JobState(found["state"]), deduplicated=True)


async def _cancel_waiting(tx: Transaction, connection_id: ConnectionId) -> None:
    """Cancel the messages that have not left; one that is being sent now is left to its job."""
    while waiting := await messages.waiting_of_connection(tx.connection, connection_id, limit=_CANCEL_BATCH):
        jobs = [pk for _, pk in waiting if pk is not None]
        ended = await ledger.cancel(tx.connection, pks=jobs, reason="the connection was deleted")
        free = [one for one, pk in waiting if pk is None or pk in ended]
        moved, wanted = await message_bulk.move(tx.connection, free, MessageStatus.CANCELED)
        tx.fan_out(*wanted)
        if not moved:
            return


async def _record(tx: Transaction, connection_id: ConnectionId, type_: str, about: Mapping[str, Any]) -> None:
    """Append the event: the connection's object, and what there is to say beside it."""
    shown = await lifecycle.shown(tx.connection, connection_id)
    if await connections.record_event(tx.connection, connection_id, type_, {**shown, **about}):
        tx.fan_out(connection_id)


async def _locked(tx: Transaction, caller: Principal, connection_id: UUID, *, even_deleted: bool = False) -> Record:
    row = await connections.lock(
        tx.connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
    )
    if row is None or (row["deleted_at"] is not None and not even_deleted):
        raise NotFound("There is no such connection.")
    return row


async def _limit(connection: Connection, connection_id: ConnectionId, config: ConnectionConfig) -> None:
    """Give its sends a rate of their own, or the queue's, their weight and their pace; the row says so already."""
    await ledger.set_group(
        connection,
        QueueName.MESSAGE_SEND,
        str(connection_id),
        rate_per_minute=config.send_rate_per_minute,
        weight=config.send_weight,
    )
    await fit_paces(connection, connection_id)


def _external_id_taken() -> Conflict:
    return Conflict(
        "Another connection has this external_id; GET /connections?external_id=… shows it.",
        code="IDEMPOTENCY_CONFLICT",
    )
