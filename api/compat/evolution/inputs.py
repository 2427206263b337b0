"""What every body of Evolution's has in common: unknown members are passed over, as it passes them over."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict

from api.auth import Principal
from api.compat import named
from api.compat.door_route import Refused
from api.resources import Resources


class Lenient(BaseModel):
    """A member that ZapHub knows and cannot do is refused, so that nobody counts on what does not happen."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


async def instance_of(parts: Resources, caller: Principal, name: str) -> dict[str, Any]:
    """The connection that an instance is. Raises Refused 404 for one that is foreign or not there."""
    found = await named.find(parts, caller, name)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", f'The "{name}" instance does not exist')
    return found
