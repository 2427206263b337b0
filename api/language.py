"""In which language a client wants to read: `Accept-Language` (RFC 9110); English and Portuguese are spoken."""

from enum import StrEnum
from typing import Final

from starlette.types import Scope

_MOST_CHARACTERS: Final = 1000


class Language(StrEnum):
    ENGLISH = "en"
    PORTUGUESE = "pt"


def preferred(scope: Scope) -> Language:
    """The spoken language that the request's header weighs most; English when it names none of them."""
    header = b",".join(value for name, value in scope["headers"] if name == b"accept-language")
    return best_of(header.decode("latin-1"))


def best_of(header: str) -> Language:
    """The language with the greatest `q`, the first of those with the same. `pt-BR` is Portuguese, `*` English."""
    best, best_weight = Language.ENGLISH, 0.0
    for part in header[:_MOST_CHARACTERS].lower().split(","):
        wanted, *parameters = (piece.strip() for piece in part.split(";"))
        language = _spoken(wanted)
        weight = _weight(parameters)
        if language is not None and weight > best_weight:
            best, best_weight = language, weight
    return best


def _spoken(language_range: str) -> Language | None:
    primary = language_range.partition("-")[0]
    if primary == "*":
        return Language.ENGLISH
    return Language(primary) if primary in set(Language) else None


def _weight(parameters: list[str]) -> float:
    """What `q=` says, 1 without it; 0, so never, for what is no weight."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0
