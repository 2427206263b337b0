"""Fit the sends of connections to their pacing, quiet hours and limits: when a config changes, and as time goes by."""

from typing import Final

from shared.db import paces
from shared.db.paces import Kept
from shared.db.pool import Connection
from shared.domain.connection_config import ConnectionConfig
from shared.domain.ids import ConnectionId
from shared.domain.send_gate import Wanted, send_gate
from shared.queues import ledger

# Connections that one sweep fits: their groups stay locked until it commits.
_AT_ONCE: Final = 200
_JOBS_AT_ONCE: Final = 5_000


async def fit(connection: Connection, connection_id: ConnectionId) -> bool:
    """Apply a connection's config, which this transaction has written, and say whether sends became claimable.

    What waits for an older, longer gap between two messages to a chat is due at once.
    """
    await paces.lock(connection, connection_id)
    return any([await _fit(connection, kept) for kept in await paces.read(connection, [connection_id])])


async def fit_due(connection: Connection) -> bool:
    """Fit the connections whose quiet hours, day or limit begins or ends by now; whether sends became claimable.

    Waits for nobody: what another transaction holds is left for the next sweep.
    """
    ids = await paces.due(connection, limit=_AT_ONCE)
    if not ids:
        return False
    locked = await paces.lock_free(connection, ids)
    await paces.forget_gone(connection, ids)
    return any([await _fit(connection, kept) for kept in await paces.read(connection, locked)])


async def _fit(connection: Connection, kept: Kept) -> bool:
    config = ConnectionConfig.from_stored({} if kept.is_deleted else kept.config)
    pace = None if config.pacing is None else config.pacing.pace()
    profile = None if config.pacing is None else config.pacing.profile
    is_new = profile is not None and profile is not kept.profile
    since = kept.now if is_new else kept.so_far.paced_since if profile is not None else None
    wanted = Wanted(
        service_rate=kept.service_rate,
        send_rate=config.send_rate_per_minute,
        pace=pace,
        quiet_hours=config.quiet_hours,
    )
    gate = send_gate(wanted, kept.so_far, now=kept.now)
    await paces.keep(connection, kept.connection_id, gate, pace=pace, profile=profile, since=since)
    ready = await paces.fit_group(connection, kept.connection_id, gate)
    if kept.min_gap_s > (0.0 if pace is None else pace.min_gap_s):
        pks = await paces.lift_gaps(connection, kept.connection_id, limit=_JOBS_AT_ONCE)
        ready = bool(await ledger.make_due(connection, pks)) or ready
    return ready
