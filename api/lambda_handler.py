"""The HTTP API as an AWS Lambda: `api.lambda_handler.handler`, behind an API Gateway or a function URL."""

import asyncio
import time
from functools import cache
from typing import Any, Final

from mangum import Mangum

from api.app import app
from shared.queues.bells import load_ahead

# A container that rested longer may have been frozen, and its connections closed by the other side meanwhile.
_RESTED_S: Final = 1.0

load_ahead()


class _Container:
    """The app, started, on the loop that all of its requests share.

    Mangum's own handling of the lifespan would open and close the database on every request.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        # Kept, as a context that is collected as garbage closes what it holds.
        self._lifespan = app.router.lifespan_context(app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        self._mangum = Mangum(app, lifespan="off")
        self._rests_since = time.time()

    def answer(self, event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - the runtime's own object
        # The wall clock: a monotonic one need not count the time in which a container is frozen.
        if time.time() - self._rests_since > _RESTED_S:
            self._loop.run_until_complete(app.state.resources.queues.thaw())
        answer: dict[str, Any] = self._mangum(event, context)
        self._rests_since = time.time()
        return answer


@cache
def _started() -> _Container:
    return _Container()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - the runtime's own object
    """Answer one request. A start that fails is tried again by the next one."""
    return _started().answer(event, context)
