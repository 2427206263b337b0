"""Run a job through Taskiq's own receiver, for brokers with middlewares and handlers with dependencies."""

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from taskiq import AsyncBroker, TaskiqMessage, TaskiqResult
from taskiq.acks import AckController
from taskiq.receiver import Receiver

from shared.domain.jobs import Job
from shared.domain.outcome import Outcome
from shared.queues.registry import Work
from shared.queues.runner import Execute, call


@dataclass(slots=True)
class _Run:
    """What the receiver runs now: the job cannot travel in the message, and the outcome not in Taskiq's return."""

    work: Work
    job: Job
    use: Any  # functions.resources.Resources
    result: TaskiqResult[Any] | None = None


_run: Final[ContextVar[_Run]] = ContextVar("taskiq_run")


class _JobReceiver(Receiver):
    """Calls the job's handler in place of the task's function, and keeps the result."""

    async def run_task(
        self,
        target: Callable[..., Any],  # noqa: ARG002 - the task's function, which is the handler without its job
        message: TaskiqMessage,
        ack_controller: AckController | None = None,
    ) -> TaskiqResult[Any]:
        run = _run.get()

        async def handler(**values: Any) -> Outcome:  # noqa: ANN401 - resolved dependencies beside the job's data
            dependencies = {name: value for name, value in values.items() if name not in message.kwargs}
            # What a middleware's pre_execute made of the data is what the handler sees.
            return await call(run.work, replace(run.job, data=message.kwargs), run.use, **dependencies)

        run.result = await super().run_task(handler, message, ack_controller)
        return run.result


def runner_for(broker: AsyncBroker) -> Execute | None:
    """How this broker's jobs run: None is directly, when it has no middleware and no handler has a dependency.

    The direct call costs a tenth of the receiver's, which nobody would get anything for.
    """
    if not broker.middlewares and not any(_has_dependencies(task.original_func) for task in _tasks(broker)):
        return None
    receiver = _JobReceiver(broker, validate_params=False, run_startup=False, max_async_tasks=1000)

    async def execute(work: Work, job: Job, use: Any) -> Outcome:  # noqa: ANN401 - resources
        run = _Run(work, job, use)
        token = _run.set(run)
        message = TaskiqMessage(
            task_id=job.job_id,
            task_name=job.queue.value,
            labels={"attempt": job.attempt, "max_attempts": job.max_attempts},
            args=[],
            kwargs=dict(job.data),
        )
        try:
            await receiver.callback(broker.formatter.dumps(message).message, raise_err=True)
        finally:
            _run.reset(token)
        if run.result is None:
            raise RuntimeError("Taskiq did not run the task")
        if run.result.error is not None:
            # A cancellation is among them: Taskiq catches it, and it has to go on.
            raise run.result.error
        outcome: Outcome = run.result.return_value
        return outcome

    return execute


def _tasks(broker: AsyncBroker) -> list[Any]:
    return list(broker.local_task_registry.values())


def _has_dependencies(function: Callable[..., Any]) -> bool:
    # A handler takes its job and the resources; whatever else it asks for is Taskiq's to give.
    return len(inspect.signature(function).parameters) > 2  # noqa: PLR2004 - those two
