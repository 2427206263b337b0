"""Puts the doors that ZAPHUB_COMPAT names into the app. What it does not name is not even imported."""

from collections.abc import Collection

from fastapi import FastAPI

from shared.settings import CompatDoor


def mount(app: FastAPI, doors: Collection[CompatDoor]) -> None:
    """Add the doors' routes; called once, when the app starts, as the settings are known only then."""
    if CompatDoor.EVOLUTION in doors:
        from api.compat.evolution.router import ROUTERS  # noqa: PLC0415 - left out when it is not wanted

        for one in ROUTERS:
            app.include_router(one)
    if CompatDoor.CLOUD in doors:
        from api.compat.cloud.router import router  # noqa: PLC0415 - as above

        app.include_router(router)
