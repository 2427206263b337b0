"""`/metrics` for Prometheus, open unless ZAPHUB_METRICS_OPEN=false; then it wants a key that may read the queues."""

import asyncio
import time
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from api.auth import authenticate, lacking
from api.http_timing import HttpTiming
from api.impatient import within
from api.resources import Resources
from api.routes.connections import Parts
from shared.db.api_keys import Scope
from shared.db.pool import AWAY, DatabaseError
from shared.exposition import CONTENT_TYPE, Family, render
from shared.queues import metrics_text

router = APIRouter(tags=["health"])

_ANSWER_S: Final = 5.0
# However many ask, the database is asked once in this time.
_FRESH_S: Final = 1.0


class Scrape:
    """The database's families, asked for by one request at a time and shared by those that come meanwhile."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._families: list[Family] = []
        self._at = float("-inf")

    async def families(self, parts: Resources) -> list[Family]:
        """Those of a second ago or less; when Postgres does not answer only `zaphub_database_up` 0."""
        async with self._lock:
            if time.monotonic() - self._at >= _FRESH_S:
                self._families = await _asked(parts)
                self._at = time.monotonic()
            return self._families


async def _may_read(request: Request, parts: Parts) -> None:
    if parts.settings.metrics_open:
        return
    caller = await authenticate(request, parts)
    if not caller.may(Scope.QUEUES_READ):
        raise lacking(Scope.QUEUES_READ)
    caller.require_everything()


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format 0.0.4"}
    },
)
async def show_metrics(request: Request, parts: Parts, _: Annotated[None, Depends(_may_read)]) -> Response:
    """Open, unless the setting METRICS_OPEN is false; then it wants a key with `queues:read`."""
    timing: HttpTiming = request.app.state.http_timing
    scrape: Scrape = request.app.state.scrape
    return Response(render([*await scrape.families(parts), timing.family()]), media_type=CONTENT_TYPE)


async def _asked(parts: Resources) -> list[Family]:
    def up(value: int) -> Family:
        return Family("zaphub_database_up", "gauge", "1 while Postgres answers the API.", [({}, value)])

    try:
        async with within(parts.queues.pool, _ANSWER_S) as connection:
            return [up(1), *await metrics_text.families(connection)]
    except (*AWAY, DatabaseError):
        return [up(0)]
