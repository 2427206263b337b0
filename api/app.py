"""The HTTP API as an ASGI app: `uvicorn api.app:app`. Nothing is read or opened before it starts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import docs_page, error_pages, openapi, problems
from api.compat import mounting
from api.cors import CorsBySetting
from api.door import Door, door_of
from api.edge import Edge
from api.http_timing import HttpTiming
from api.json_body import JsonRoute
from api.resources import opened
from api.routes import (
    api_keys,
    bulk_messages,
    chats,
    connections,
    deliveries,
    events,
    health,
    jobs,
    lifecycle,
    media,
    messages,
    metrics,
    pairing,
    proxies,
    queues,
    sends,
    webhooks,
)
from shared import log, presence
from shared.settings import Settings, load

_DESCRIPTION: Final = (
    "A self-hosted WhatsApp gateway. Send an API key as `Authorization: Bearer <key>` or `X-API-Key`. "
    "Errors are `application/problem+json` with a stable `code`."
)
# They are tried in this order: first what is asked most.
_ROUTES: Final = (
    *(
        sends,
        health,
        metrics,
        docs_page,
        error_pages,
        connections,
        lifecycle,
        pairing,
        proxies,
        chats,
        media,
        messages,
        bulk_messages,
        queues,
        jobs,
    ),
    webhooks,
    deliveries,
    events,
    api_keys,
)
_log = structlog.get_logger()


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app. Without settings it reads the environment when it starts, and Misconfigured stops it then."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
        presence.die_with_parent()
        chosen = settings or load()
        log.configure(level=chosen.log_level, fmt=chosen.log_format)
        async with opened(chosen) as resources:
            app.state.resources = resources
            mounting.mount(app, chosen.compat)
            app.state.door = door_of(chosen)
            presence.announce(chosen.run_dir, chosen.part or "api")
            _log.info("api_started")
            # What `api.patient_http` reads; it has no other way to the settings.
            yield {"header_timeout_s": chosen.api_header_timeout_s}
        _log.info("api_stopped")

    app = FastAPI(
        title="ZapHub",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.door = Door()
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]  # FastAPI's own way to say it
    app.state.http_timing = HttpTiming()
    app.state.scrape = metrics.Scrape()
    app.router.route_class = JsonRoute
    app.router.redirect_slashes = False
    for module in _ROUTES:
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(Edge)
    app.add_middleware(CorsBySetting)
    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name: what generated clients call it, so it stays when a path changes."""
    return route.name


app = create_app()
