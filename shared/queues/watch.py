"""The watch: every 10 s one process of all counts what happened, judges the queues, and notices hosts that are lost."""

import asyncio
from typing import Final

import structlog

from shared.db import leases, watch
from shared.db.pool import AWAY, COLLISION
from shared.domain.jobs import QueueName
from shared.domain.webhook import fan_out_job
from shared.queues import alerts
from shared.queues.alerts import RULES, Turn
from shared.queues.metrics import queue_metrics
from shared.queues.outage import Outage
from shared.queues.policies import POLICIES
from shared.queues.runtime import Queues, Transaction

EVERY_S: Final = 10.0
# Upper bounds of the histograms' buckets, seconds; one more has no bound.
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
# So long a transaction that stays open may hold the counting up.
_PATIENCE_S: Final = 60.0
# A turn is taken by the database's clock, which may be a little behind the loop's.
_SLACK_S: Final = 0.5
# Other hosts take over within seconds; after this long there are none, or none with room. Long enough also for hosts
# to renew what lapsed while Postgres was away.
_LEASE_LOST_S: Final = 20.0

log = structlog.get_logger(__name__)


async def run(queues: Queues) -> None:
    """Look again and again until cancelled. Any number may run: who comes too early finds that it is not their turn."""
    outage = Outage("postgres, for the watch")
    while True:
        try:
            await look(queues)
        except (*AWAY, *COLLISION) as error:
            outage.began(error)
        else:
            outage.ended()
        await asyncio.sleep(EVERY_S)


async def look(queues: Queues, *, every_s: float = EVERY_S - _SLACK_S) -> bool:
    """Count and judge in one transaction, unless somebody did so less than `every_s` ago; say whether it was done.

    Totals, alerts and their events commit together, so a look that dies has not been. Sessions whose host is lost and
    that no other host takes are set `disconnected` in a transaction of its own: their messages say why they wait.
    """
    async with queues.transaction() as tx:
        turn = await watch.take_turn(tx.connection, every_s=every_s)
        if turn is None:
            return False
        await watch.count(tx.connection, turn, bounds_s=BOUNDS_S, patience_s=_PATIENCE_S)
        await _judge(tx)
    async with queues.transaction() as tx:
        if await watch.is_a_lease_lost(tx.connection, for_s=_LEASE_LOST_S):
            tx.fan_out(*await leases.expire(tx.connection))
    return True


async def _judge(tx: Transaction) -> None:
    states, now = await watch.alerts(tx.connection)
    is_wanted = False
    for numbers in await queue_metrics(tx.connection):
        queue_id = POLICIES[QueueName(numbers["name"])].id
        for rule in RULES:
            before = states.get((queue_id, rule.type))
            after, turn = alerts.step(rule, before, numbers, now=now)
            if after != before:
                await watch.keep_alert(tx.connection, queue_id, rule.type, after)
            told = after or before
            if turn is None or told is None:
                continue
            if turn is Turn.RAISED:
                log.warning("queue_alert_raised", alert=rule.type, queue=numbers["name"])
            else:
                log.info("queue_alert_resolved", alert=rule.type, queue=numbers["name"])
            payload = alerts.payload(rule, told, numbers, turn, now=now)
            severity = "warn" if turn is Turn.RAISED else "info"
            is_wanted |= await watch.record_event(tx.connection, rule.type, payload, severity=severity)
    if is_wanted:
        await tx.enqueue([fan_out_job(None)])
