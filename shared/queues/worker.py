"""A worker process's inside: the drain, the sweeper, the heartbeat and the ear for bells, from start to clean end."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import structlog

from shared import presence
from shared.db.pool import AWAY
from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName
from shared.log import configure
from shared.queues import watch
from shared.queues.admin import apply_policies
from shared.queues.drain import Drain
from shared.queues.heartbeat import Heartbeat
from shared.queues.listening import listen
from shared.queues.outage import Outage
from shared.queues.policies import POLICIES
from shared.queues.redis_eviction import refuse_eviction
from shared.queues.registry import Works
from shared.queues.runner import Execute
from shared.queues.runtime import Queues, set_current
from shared.queues.sweeper import Sweeper
from shared.settings import Settings, load

# Beyond the grace of what runs: to record how it ended, or to find that Postgres is away.
_FLUSH_S: Final = 3.0
# The drain keeps three of the pool's connections (claims, finishes, sweeps); handlers need some too. One more is the
# heartbeat's own.
_POOL_AT_LEAST: Final = 6

log = structlog.get_logger(__name__)


async def run_worker(
    works: Works,
    every_work: Callable[[], Works],
    open_resources: Callable[[Queues], AbstractAsyncContextManager[Any]],
    *,
    execute: Execute | None,
    stop: asyncio.Event,
) -> None:
    """Work these queues until `stop`; then finish what runs within `shutdown_grace_s` and give the rest back.

    Survives Postgres and Redis being away, from the start on. Raises only for what a restart might mend.
    """
    settings = load()
    configure(level=settings.log_level, fmt=settings.log_format)
    presence.die_with_parent()
    await refuse_eviction(settings)
    queues = await _open(settings, stop)
    if queues is None:
        return
    set_current(queues)
    try:
        async with queues, open_resources(queues) as use:
            await _work(queues, works, every_work(), use, execute=execute, stop=stop)
    finally:
        set_current(None)


async def _work(
    queues: Queues,
    works: Works,
    every_work: Works,
    use: Any,  # noqa: ANN401 - functions.resources.Resources
    *,
    execute: Execute | None,
    stop: asyncio.Event,
) -> None:
    settings = queues.settings
    outage = Outage("postgres")
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
    drain = Drain(queues, works, use, slots=slots_for(works, settings), worker=name, execute=execute, outage=outage)
    heartbeat = Heartbeat(settings.database_url, drain.held, on_lost=drain.lose, on_canceled=drain.cancel)
    sweeper = Sweeper(queues, every_work, outage=outage, on_turn=heartbeat.loop_turned)
    heartbeat.start()
    try:
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(drain.run(timekeeper=sweeper, grace_s=settings.shutdown_grace_s))
            watching = [
                group.create_task(sweeper.run()),
                group.create_task(listen(queues.bell, drain)),
                group.create_task(watch.run(queues)),
            ]
            presence.announce(settings.run_dir, settings.part or "worker")
            log.info("worker_started", worker=name, queues=[queue.value for queue in works])
            await stop.wait()
            log.info("worker_stopping", worker=name, grace_s=settings.shutdown_grace_s)
            for task in watching:
                task.cancel()
            drain.close()
            try:
                async with asyncio.timeout(settings.shutdown_grace_s + _FLUSH_S):
                    await draining
            except TimeoutError:
                log.error("worker_cut_off", worker=name)  # noqa: TRY400 - the traceback is this function's own
    finally:
        heartbeat.stop()
    log.info("worker_stopped", worker=name)


def slots_for(queues: Iterable[QueueName], settings: Settings) -> dict[QueueName, int]:
    """How many jobs of each queue run at once in this process, most urgent queue first."""
    urgent = sorted(queues, key=lambda queue: -POLICIES[queue].priority)
    return {queue: settings.concurrency.get(queue, POLICIES[queue].concurrency) for queue in urgent}


async def _open(settings: Settings, stop: asyncio.Event) -> Queues | None:
    outage = Outage("postgres")
    while not stop.is_set():
        try:
            queues = await Queues.open(settings, pool_size=max(settings.db_pool_size, _POOL_AT_LEAST) - 1)
            await _apply_settings(queues)
        except Unavailable as error:
            try:
                async with asyncio.timeout(outage.began(error)):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            outage.ended()
            return queues
    return None


async def _apply_settings(queues: Queues) -> None:
    """Make the send rate of a connection that has none of its own the setting's; every worker of one set-up agrees."""
    send = replace(POLICIES[QueueName.MESSAGE_SEND], rate_per_minute=queues.settings.send_rate_per_minute)
    try:
        async with queues.pool.acquire() as connection:
            await apply_policies(connection, {QueueName.MESSAGE_SEND: send})
    except AWAY as error:
        await queues.close()
        raise Unavailable("Postgres went away while the worker started.") from error
