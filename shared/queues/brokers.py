"""What Taskiq sees: a broker whose `kiq` makes ledger jobs and whose worker drains them, and a module's three names."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask, BrokerMessage, TaskiqMessage
from taskiq.exceptions import SendTaskError
from taskiq.kicker import AsyncKicker
from taskiq.task import AsyncTaskiqTask

from shared.domain.errors import InvalidInput
from shared.domain.jobs import NewJob, QueueName
from shared.queues import new_jobs, runtime
from shared.queues.lambda_entry import LambdaEntry
from shared.queues.registry import Work, Works
from shared.queues.runtime import Queues
from shared.queues.through_taskiq import runner_for
from shared.queues.worker import run_worker
from shared.settings import load

OpenResources = Callable[[Queues], AbstractAsyncContextManager[Any]]

# What Taskiq would look at and leave as it is: half a microsecond a value.
_PLAIN = frozenset({str, int, float, bool, type(None)})


class _JobKicker(AsyncKicker[Any, Any]):
    """Gives a message the readable id of the job that its data mean."""

    async def kiq(self, *args: Any, **kwargs: Any) -> AsyncTaskiqTask[Any]:  # noqa: ANN401 - Taskiq's signature
        broker = self.broker
        if args or broker.middlewares or not isinstance(broker, QueueBroker):
            return await super().kiq(*args, **kwargs)
        # Nobody wants to see the message, which costs as much to make and to parse as the job itself.
        data = {name: value if type(value) in _PLAIN else self._prepare_arg(value) for name, value in kwargs.items()}
        job = new_jobs.from_data(QueueName(self.task_name), data)
        if self.custom_task_id:
            job = replace(job, job_id=self.custom_task_id)
        try:
            await broker.enqueue(job)
        except Exception as error:
            raise SendTaskError from error
        return AsyncTaskiqTask(task_id=job.job_id, result_backend=broker.result_backend, return_type=self.return_type)

    def _prepare_message(self, *args: Any, **kwargs: Any) -> TaskiqMessage:  # noqa: ANN401 - Taskiq's signature
        if args:
            raise InvalidInput(f"{self.task_name} takes its data by name: kiq(key=value).")
        message = super()._prepare_message(**kwargs)
        message.task_id = message.task_id or new_jobs.from_data(QueueName(self.task_name), message.kwargs).job_id
        return message


class _JobTask(AsyncTaskiqDecoratedTask[Any, Any]):
    """`await task.kiq(**data)` makes one ledger job and rings its queue; the answer's `task_id` is the job's id."""

    def kicker(self) -> _JobKicker:
        return _JobKicker(
            task_name=self.task_name, broker=self.broker, labels=dict(self.labels), return_type=self.return_type
        )


class QueueBroker(AsyncBroker):
    """A Taskiq broker over the ledger, for one queue or several; how its bells travel is `settings.transport`.

    In a worker process `listen` claims, runs and finishes jobs and never yields: a bell means "look", not "run this",
    so there is no message to hand to Taskiq's receiver.
    """

    def __init__(
        self, works: Sequence[Work], *, open_resources: OpenResources, every_work: Callable[[], Works]
    ) -> None:
        super().__init__()
        self.works: Works = {work.queue: work for work in works}
        self.decorator_class = _JobTask
        # An empty id is named after the job's data; Taskiq's scheduler asks for one before there are data.
        self.id_generator = str
        self._open_resources = open_resources
        self._every_work = every_work
        self._own: Queues | None = None
        self._opening = asyncio.Lock()

    def add_task(self, task: AsyncTaskiqDecoratedTask[Any, Any]) -> None:
        """Know another broker's task too; its `kiq` goes on through that broker."""
        self.local_task_registry[task.task_name] = task

    async def startup(self) -> None:
        if not self.is_worker_process:
            await self._queues()
        await super().startup()

    async def shutdown(self) -> None:
        await super().shutdown()
        if self._own is not None:
            own, self._own = self._own, None
            await own.close()

    async def kick(self, message: BrokerMessage) -> None:
        """Enqueue the job that the message means, then ring. Returns after the commit."""
        data: Mapping[str, Any] = self.formatter.loads(message.message).kwargs
        job = new_jobs.from_data(QueueName(message.task_name), data)
        if message.task_id:
            job = replace(job, job_id=message.task_id)
        await self.enqueue(job)

    async def enqueue(self, job: NewJob) -> None:
        """Make the job and ring its queue. Returns after the commit."""
        queues = await self._queues()
        if job.queue is QueueName.MAINTENANCE_CLEANUP:
            async with queues.transaction() as tx:
                await tx.enqueue_once(job)
        else:
            await queues.enqueue(job)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Work the queues until Taskiq ends this, then finish what runs within `shutdown_grace_s`."""
        stop = asyncio.Event()
        work = run_worker(self.works, self._every_work, self._open_resources, execute=runner_for(self), stop=stop)
        working = asyncio.ensure_future(work)
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            # SIGTERM reaches us as a cancellation here, and Taskiq waits for the end of this without a time limit,
            # which its own shutdown hook has (5 s).
            stop.set()
            await working
            raise
        raise AssertionError("a worker ends only when it is told to")
        yield b""  # makes this a generator

    async def _queues(self) -> Queues:
        if runtime.has_current():
            return runtime.current()
        async with self._opening:
            if self._own is None:
                self._own = await Queues.open(load())
        return self._own


class QueueModule:
    """The names a module of functions/ exposes for its queue: `task`, `broker` (that queue alone) and `handler`."""

    def __init__(self, work: Work, *, open_resources: OpenResources, every_work: Callable[[], Works]) -> None:
        self.work = work
        self.broker = QueueBroker([work], open_resources=open_resources, every_work=every_work)
        handle = work.handle or work.handle_batch
        assert handle is not None
        self.task = self.broker.register_task(_like(handle), task_name=work.queue.value)
        self.handler = LambdaEntry(work, self.broker, open_resources)


def _like(handle: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the handler's parameters, as Taskiq renames the one that it registers."""

    @functools.wraps(handle)
    async def task(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the handler's own
        return await handle(*args, **kwargs)

    return task


def broker_of(modules: Sequence[QueueModule]) -> QueueBroker:
    """One broker for several queues, claimed most urgent first; the modules' own brokers stay as they are."""
    first = modules[0].broker
    broker = QueueBroker(
        [module.work for module in modules],
        open_resources=first._open_resources,  # noqa: SLF001 - of the same class
        every_work=first._every_work,  # noqa: SLF001 - as above
    )
    for module in modules:
        broker.add_task(module.task)
    return broker
