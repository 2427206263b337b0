"""The HTTP API as an AWS Lambda: `api.lambda_handler.handler`, behind an API Gateway or a function URL."""

import asyncio
from typing import Any

from mangum import Mangum

from api.app import app

# Mangum's own lifespan handling starts and stops the app on every request; this starts it once per container.
_serve = Mangum(app, lifespan="off")
_lifespan = app.router.lifespan_context(app)
_has_started = False


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - the runtime's own object
    """Answer one request. The first one of a container opens the database, on the loop that all of them share."""
    global _has_started  # noqa: PLW0603 - a container is one process with one loop
    if not _has_started:
        asyncio.get_event_loop().run_until_complete(_lifespan.__aenter__())
        _has_started = True
    answer: dict[str, Any] = _serve(event, context)
    return answer
