"""A function: environments that are started when they are needed and kept for the next invocation."""

import asyncio
from typing import Any

from local.lambda_runtime.environment import Environment, InvocationFailed, Spec


class Function:
    """Invocations at once run in environments of their own; at most `most_at_once` of them, the others wait."""

    def __init__(self, spec: Spec, *, most_at_once: int) -> None:
        self.spec = spec
        self._room = asyncio.Semaphore(most_at_once)
        self._idle: list[Environment] = []
        self._busy: set[Environment] = set()
        self.cold_starts = 0

    @property
    def environments(self) -> list[Environment]:
        """Those that live, idle ones first."""
        return [one for one in [*self._idle, *self._busy] if one.is_alive]

    async def invoke(self, event: Any) -> Any:  # noqa: ANN401 - JSON, both ways
        """Run the handler and return its answer. Raises InvocationFailed."""
        async with self._room:
            environment = await self._environment()
            self._busy.add(environment)
            try:
                return await environment.invoke(event)
            except asyncio.CancelledError:
                await environment.stop()
                raise
            finally:
                self._busy.discard(environment)
                if environment.is_alive:
                    self._idle.append(environment)

    async def close(self) -> None:
        """End every environment."""
        environments, self._idle = [*self._idle, *self._busy], []
        await asyncio.gather(*(one.stop() for one in environments))

    async def _environment(self) -> Environment:
        while self._idle:
            environment = self._idle.pop()
            if environment.is_alive:
                return environment
            await environment.stop()
        environment = Environment(self.spec)
        self.cold_starts += 1
        try:
            await environment.start()
        except (InvocationFailed, asyncio.CancelledError):
            await environment.stop()
            raise
        return environment
