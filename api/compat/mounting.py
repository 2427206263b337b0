"""Puts the doors that ZAPHUB_COMPAT names into the app. What it does not name is not even imported."""

from collections.abc import Collection, Sequence
from typing import assert_never

from fastapi import APIRouter, FastAPI

from shared.settings import CompatDoor


def mount(app: FastAPI, doors: Collection[CompatDoor]) -> None:
    """Add the doors' routes when the app starts, as the settings are known only then; again, it adds nothing."""
    there: frozenset[CompatDoor] = getattr(app.state, "compat_doors", frozenset())
    for door in doors:
        if door not in there:
            for router in _routers_of(door):
                app.include_router(router)
    app.state.compat_doors = there | frozenset(doors)


def _routers_of(door: CompatDoor) -> Sequence[APIRouter]:
    match door:
        case CompatDoor.EVOLUTION:
            from api.compat.evolution.router import ROUTERS  # noqa: PLC0415 - left out when it is not wanted

            return ROUTERS
        case CompatDoor.CLOUD:
            from api.compat.cloud.router import router  # noqa: PLC0415 - as above

            return (router,)
        case _:
            assert_never(door)
