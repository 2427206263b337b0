"""The environment of this process, as settings and as what children inherit.

`shared.settings` reads single settings. Here the whole environment is passed on to children (PATH, HOME, proxies), and
the question "was it set at all?" is answered for those settings that `zh` fills in by itself.
"""

# ruff: noqa: TID251 - children inherit the whole environment, so here, and only here, local/ looks at it
# ruff: noqa: PLC0415 - `./zh help` must not wait for pydantic

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.settings import Settings

_PREFIX = "ZAPHUB_"
CHECKOUT = Path(__file__).resolve().parent.parent


def inherited() -> dict[str, str]:
    """Return a copy of our environment."""
    return dict(os.environ)


def is_set(setting: str) -> bool:
    """Whether a setting, named as in `Settings`, has a value in the environment or in `.env`."""
    return setting in _given()


def settings_with(fallbacks: Mapping[str, str]) -> "Settings":
    """Read the settings, taking each fallback only where nothing is set.

    Raises Misconfigured, with a line for every wrong variable.
    """
    from pydantic import ValidationError

    from shared.domain.errors import Misconfigured
    from shared.settings import Settings, explain

    given = _given()
    # Any: the fields parse and check the strings, as they do those of the environment.
    missing: dict[str, Any] = {name: value for name, value in fallbacks.items() if name not in given}
    try:
        return Settings(**missing)
    except ValidationError as error:
        raise Misconfigured(explain(error)) from None


def local_settings() -> "Settings":
    """Read the settings for a command that needs neither the database nor the secrets, which may be unset.

    The data folder is `.zaphub` in the checkout unless set. Raises Misconfigured for wrong values all the same.
    """
    return settings_with(
        {"database_url": "postgresql://unset", "secret_key": "unset" * 4, "data_dir": str(CHECKOUT / ".zaphub")}
    )


def for_children(settings: Mapping[str, str | None]) -> dict[str, str]:
    """Return our environment with these settings set, or unset where the value is None."""
    changed = {f"{_PREFIX}{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in changed}
    return kept | {name: value for name, value in changed.items() if value is not None}


def _given() -> set[str]:
    from dotenv import dotenv_values

    # The order of pydantic-settings, which also takes an empty variable for one that is not set.
    everything = {**dotenv_values(".env"), **os.environ}
    return {
        name.upper().removeprefix(_PREFIX).lower()
        for name, value in everything.items()
        if value and name.upper().startswith(_PREFIX)
    }
