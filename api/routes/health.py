"""`/healthz` says that the process lives, `/readyz` that it can work."""

import asyncio
from http import HTTPStatus
from typing import Final, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from api.answers import answer
from api.impatient import within
from api.problems import Problem
from api.routes.connections import Parts
from api.shapes import Shape
from shared.db.pool import AWAY, DatabaseError
from shared.domain.errors import Unavailable
from shared.domain.jobs import QueueName

router = APIRouter(tags=["health"])

_ANSWER_S: Final = 2.0


class Health(Shape):
    status: Literal["ok"]


class Checks(Shape):
    postgres: Literal["ok"]
    bell: Literal["ok", "away"] = Field(description="away: jobs start up to a second later")


class Readiness(Shape):
    status: Literal["ok", "degraded"]
    checks: Checks


@router.get("/healthz", summary="Whether the process lives", response_model=Health)
async def healthz() -> Response:
    """Asks nothing of anybody, and is answered however busy the process is."""
    return answer({"status": "ok"})


@router.get("/readyz", summary="Whether requests can be served: Postgres answers", response_model=Readiness)
async def readyz(parts: Parts) -> Response:
    """Without its bell ZapHub works, a second later: that is `degraded`, and still 200."""
    try:
        async with within(parts.queues.pool, _ANSWER_S) as connection:
            await connection.fetchval("SELECT 1")
    except (*AWAY, DatabaseError) as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "Postgres does not answer.", retryable=True
        ) from error
    bell_rings = await _bell_rings(parts)
    return answer(
        {
            "status": "ok" if bell_rings else "degraded",
            "checks": {"postgres": "ok", "bell": "ok" if bell_rings else "away"},
        }
    )


async def _bell_rings(parts: Parts) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            # Rung for nothing, a queue costs its worker one empty look; this one is the quietest.
            await parts.queues.bell.ring({QueueName.MAINTENANCE_CLEANUP})
    except (Unavailable, TimeoutError):
        return False
    return True
