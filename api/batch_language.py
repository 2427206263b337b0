"""What is wrong with single messages of a batch, in the language that its sender prefers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Scope

from api.answers import Ready
from api.catalogue import translated
from api.language import Language, preferred


def in_language(scope: Scope, results: Sequence[Ready]) -> tuple[list[Ready], dict[str, str]]:
    """The results with their errors in the request's language, and the headers that say which it is.

    What a batch was answered is kept in English for its repetition, so it is translated on its way out.
    """
    language = preferred(scope)
    headers = {"Content-Language": language.value, "Vary": "Accept-Language"}
    if language is Language.ENGLISH:
        return list(results), headers
    return [_translated(one, language) for one in results], headers


def _translated(result: Ready, language: Language) -> Ready:
    shown = json.loads(result.text)
    if "error" not in shown:
        return result
    error = _in(shown["error"], language)
    if "errors" in error:
        error["errors"] = [_in(one, language) for one in error["errors"]]
    return Ready(json.dumps({**shown, "error": error}, ensure_ascii=False))


def _in(part: Mapping[str, Any], language: Language) -> dict[str, Any]:
    return {**part, "detail": translated(part["detail"], language)}
