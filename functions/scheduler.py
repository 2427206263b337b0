"""The scheduler: `taskiq scheduler functions.scheduler:scheduler`. Any number may run: each cleanup runs once."""

import asyncio
import signal

from taskiq import ScheduledTask, ScheduleSource, TaskiqScheduler

from functions import maintenance_cleanup
from shared import presence
from shared.domain.jobs import QueueName
from shared.log import configure
from shared.settings import load


class SettingsSource(ScheduleSource):
    """The schedules that the settings name."""

    async def startup(self) -> None:
        settings = load()
        configure(level=settings.log_level, fmt=settings.log_format)
        presence.die_with_parent()

    async def get_schedules(self) -> list[ScheduledTask]:
        """One task, without an id: its job's id is the minute it falls in, which every scheduler names alike."""
        return [
            ScheduledTask(
                schedule_id="cleanup",
                task_name=QueueName.MAINTENANCE_CLEANUP.value,
                labels={},
                args=[],
                kwargs={},
                cron=load().cleanup_cron,
            )
        ]


class Scheduler(TaskiqScheduler):
    """Taskiq's own, which tells the supervisor when it is ready."""

    async def startup(self) -> None:
        await super().startup()
        # Taskiq's scheduler ends cleanly when it is cancelled, and knows SIGINT only.
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        settings = load()
        presence.announce(settings.run_dir, settings.part or "scheduler")


scheduler = Scheduler(maintenance_cleanup.broker, [SettingsSource()])
