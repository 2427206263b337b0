"""Lists: `{"data": […], "next_cursor": …}`, newest first, and what a cursor holds."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from pydantic import Field

from shared.domain.errors import InvalidInput

# The place of the last element that the client has seen.
Place = tuple[datetime, UUID]
Limit = Annotated[int, Field(ge=1, le=200, description="how many at most")]
Cursor = Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before")]
DEFAULT_LIMIT: Final = 50

_MAX_DIGITS: Final = 18
_FIRST_YEAR, _LAST_YEAR = 1970, 3000  # in any time zone a time of these can be told in UTC

Row = TypeVar("Row")


def page(
    rows: Sequence[Row], *, limit: int, place: Callable[[Row], Place], show: Callable[[Row], Any]
) -> dict[str, Any]:
    """One page of `rows`, which were read with `limit + 1`: the one too many tells that there is a next page."""
    shown = rows[:limit]
    return {
        "data": [show(row) for row in shown],
        "next_cursor": cursor_of(*place(shown[-1])) if len(rows) > limit else None,
    }


def cursor_of(at: datetime, id_: UUID) -> str:
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), str(id_)]).encode()).decode().rstrip("=")


def place_of(cursor: str | None) -> Place | None:
    """Where to go on. Raises InvalidInput when the cursor is none of ours."""
    if cursor is None:
        return None
    try:
        at, id_ = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        place = datetime.fromisoformat(at), UUID(id_)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise _stranger() from None
    if place[0].tzinfo is None or not _FIRST_YEAR <= place[0].year < _LAST_YEAR:
        raise _stranger()
    return place


def number_cursor_of(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def number_of(cursor: str | None) -> int | None:
    """Where to go on in a list that is numbered. Raises InvalidInput when the cursor is none of ours."""
    if cursor is None:
        return None
    try:
        digits = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _stranger() from None
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise _stranger()
    return int(digits)


def _stranger() -> InvalidInput:
    return InvalidInput("Use the `next_cursor` of the page before, unchanged, or leave it out.", pointer="?cursor")
