"""The HTTP API as an AWS Lambda: `api.lambda_handler.handler`, behind an API Gateway or a function URL."""

import asyncio
from functools import cache
from typing import Any

from mangum import Mangum

from api.app import app


@cache
def _started() -> Mangum:
    """Start the app once per container, on the loop that all of its requests share.

    Mangum's own handling of the lifespan would open and close the database on every request.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    lifespan = app.router.lifespan_context(app)
    loop.run_until_complete(lifespan.__aenter__())
    # Kept, as a context that is collected as garbage closes what it holds.
    app.state.lifespan = lifespan
    return Mangum(app, lifespan="off")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - the runtime's own object
    """Answer one request. A start that fails is tried again by the next one."""
    answer: dict[str, Any] = _started()(event, context)
    return answer
