"""Tasks of a process's group whose fault is told and ends nothing else."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


def begin(group: asyncio.TaskGroup, work: Coroutine[Any, Any, Any], *, fault: str) -> "asyncio.Task[None]":
    """Run the work in a task of its own; an exception is logged as `fault`, and the group goes on."""
    return group.create_task(_told(work, fault))


async def _told(work: Coroutine[Any, Any, Any], fault: str) -> None:
    try:
        await work
    except Exception as error:
        # The root of a task: without the group's end nobody else would hear of it.
        log.exception(fault, error=type(error).__name__)
