"""How a module of this package registers its handler: `queue = work(QueueName.MESSAGE_SEND, handle)`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, overload

from functions.resources import Resources, open_resources
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Outcome
from shared.queues.brokers import QueueModule
from shared.queues.registry import OnEnded, OnTimeout, Work, Works

Handle = Callable[[Job, Resources], Awaitable[Outcome]]
HandleBatch = Callable[[Sequence[Job], Resources], Awaitable[Sequence[Outcome]]]


@overload
def work(
    queue: QueueName, handle: Handle, *, on_ended: OnEnded | None = None, on_timeout: OnTimeout | None = None
) -> QueueModule: ...
@overload
def work(
    queue: QueueName,
    handle: HandleBatch,
    *,
    batch: Literal[True],
    alone: Mapping[str, Handle] | None = None,
    on_ended: OnEnded | None = None,
) -> QueueModule: ...
def work(
    queue: QueueName,
    handle: Any,
    *,
    batch: bool = False,
    alone: Mapping[str, Handle] | None = None,
    on_ended: OnEnded | None = None,
    on_timeout: OnTimeout | None = None,
) -> QueueModule:
    """Make the queue's Taskiq task, its broker and its Lambda handler; nothing connects until one of them starts.

    With `batch` the handler gets the jobs of one claim and returns their outcomes in the same order; those
    whose name is in `alone` have a handler of their own. `on_ended` turns a job's data and a Failure into writes, for a
    job that ends without its handler's word; `on_timeout` says what became of a try that was stopped because it took
    too long.
    """
    registered = Work(
        queue=queue,
        handle=None if batch else handle,
        handle_batch=handle if batch else None,
        alone=alone or {},
        on_ended=on_ended,
        on_timeout=on_timeout,
    )
    return QueueModule(registered, open_resources=open_resources, every_work=_every_work)


def _every_work() -> Works:
    """All seven, whichever of them this process works: any worker's sweep may end any queue's job."""
    # At a worker's start and not at import: functions.worker imports the modules that import this one.
    works: Works = import_module("functions.worker").works
    return works
