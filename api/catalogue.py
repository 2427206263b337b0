"""The words of problems in both languages: `locale/codes.json` has each code, `locale/messages.json` each `detail`.

Code speaks English; what it says is looked up here when a client wants Portuguese. A message with values in it is
found by its template, such as `There is no connection {}.`: the values are put into the translation, `{}` in the same
order or `{0}`, `{1}` in another. A value that is a message itself is translated too. A test compares code and
catalogue.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from api.language import Language

_FOLDER: Final = Path(__file__).parent / "locale"
_DEEPEST: Final = 3  # a message in a message in a message
_LONGEST: Final = 2000  # characters; what is longer has a client's value in it, and would be searched for too long


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePage:
    """What is said of one code. `status` None: it stands in a message's `error`, and `retryable` says how."""

    code: str
    status: int | None
    retryable: bool | None
    title: Mapping[Language, str]
    meaning: Mapping[Language, str]


@cache
def codes() -> Mapping[str, CodePage]:
    """Every code, in the order of docs/errors.md; read from the disk once."""
    return {code: CodePage(code=code, **_by_language(entry)) for code, entry in _read("codes.json").items()}


def title_of(code: str, language: Language) -> str:
    page = codes().get(code)
    return code.replace("_", " ").capitalize() if page is None else page.title[language]


def translated(text: str, language: Language) -> str:
    """`text`, which is English, in another language; as it is when it is not in the catalogue."""
    if language is Language.ENGLISH:
        return text
    found = None if len(text) > _LONGEST else _found(text, depth=1)
    return text if found is None else _as_written(found, text)


@cache
def messages() -> Mapping[str, str]:
    """Portuguese by the English template; read from the disk once."""
    found: dict[str, str] = _read("messages.json")
    return found


@dataclass(frozen=True, slots=True)
class _Template:
    pattern: re.Pattern[str]
    translation: str


@cache
def _exact() -> Mapping[str, str]:
    return {_plain(english): portuguese for english, portuguese in messages().items() if "{}" not in english}


@cache
def _templates() -> tuple[_Template, ...]:
    """The longest first: what fits two is meant by the one that says more."""
    found = sorted((english for english in messages() if "{}" in english), key=len, reverse=True)
    return tuple(
        _Template(
            re.compile("(.*?)".join(re.escape(part) for part in _plain(english).split("{}")), re.DOTALL),
            messages()[english],
        )
        for english in found
    )


def _found(text: str, *, depth: int) -> str | None:
    plain = _plain(text)
    translation = _exact().get(plain)
    if translation is None:
        for template in _templates():
            if match := template.pattern.fullmatch(plain):
                values = match.groups()
                if depth < _DEEPEST:
                    values = tuple(_found(value, depth=depth + 1) or value for value in values)
                translation = template.translation.format(*values)
                break
    return None if translation is None else _plain(translation)


def _plain(text: str) -> str:
    """A message without what depends on its place: the capital at its start and the full stop at its end."""
    text = text.removesuffix(".")
    return text[:1].lower() + text[1:]


def _as_written(translation: str, text: str) -> str:
    start = translation[:1].upper() if text[:1].isupper() else translation[:1]
    return start + translation[1:] + ("." if text.endswith(".") else "")


def _by_language(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {Language(language): text for language, text in value.items()} if isinstance(value, dict) else value
        for name, value in entry.items()
    }


def _read(name: str) -> Any:  # noqa: ANN401 - JSON is any of six types
    return json.loads((_FOLDER / name).read_text(encoding="utf-8"))
