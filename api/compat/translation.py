"""From another gateway's words to a message of ours: the same validation, and errors that name the caller's fields."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from api.inputs import AnySend, Send
from api.problems import invalid, wrong_value
from shared.domain.errors import InvalidInput

_PARSE: Final[TypeAdapter[Any]] = TypeAdapter(Send)


def as_send(fields: Mapping[str, Any], *, places: Mapping[str, str]) -> AnySend:
    """The message that `fields` say, as `POST …/send` would take it.

    `places` says which field of the caller's each of ours came from, by JSON pointer. Raises Problem 422.
    """
    try:
        parsed: AnySend = _PARSE.validate_python(fields)
    except ValidationError as error:
        wrong = [wrong_value({**one, "loc": ("body", *one["loc"])}) for one in error.errors(include_url=False)]
        raise invalid([InvalidInput(one.detail, pointer=_place(one.pointer, places)) for one in wrong]) from None
    return parsed


def _place(pointer: str, places: Mapping[str, str]) -> str:
    """The caller's place of one of ours, by the longest part that is known; theirs and ours may be nested alike."""
    for ours in sorted(places, key=len, reverse=True):
        if pointer == ours or pointer.startswith(f"{ours}/"):
            return places[ours] + pointer.removeprefix(ours)
    return pointer
