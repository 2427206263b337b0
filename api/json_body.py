"""JSON as it may come in: strict UTF-8, finite numbers, no repeated key, no NUL, bounded depth; nothing but JSON."""

import json
import math
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.problems import Problem
from shared.domain.content import storable

MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 19  # of an integer: what 64 bits hold


class JsonRequest(Request):
    """A request whose body is parsed strictly."""

    async def json(self) -> Any:  # noqa: ANN401 - starlette's signature
        return parse(await self.body())

    def require_json(self) -> None:
        """Raises Problem 415 for a body that is not declared to be JSON."""
        if not _says_json(self.headers.get("content-type", "")):
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "Send the body as JSON, with the header Content-Type: application/json.",
            )


class JsonRoute(APIRoute):
    """A route that refuses a body which is not declared to be JSON, and parses the others strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        wants_body = self.body_field is not None

        async def handle_strictly(plain: Request) -> Response:
            # One request object from here on: a body can be read from the server only once.
            request = JsonRequest(plain.scope, plain.receive)
            if wants_body and await request.body():
                request.require_json()
            return await handle(request)

        return handle_strictly


def parse(body: bytes) -> Any:  # noqa: ANN401 - JSON is any of six types
    """The value that `body` spells. Raises Problem 400 when it is not JSON, or JSON that cannot be kept."""
    try:
        value = _decode(body.decode("utf-8"))
        _check(value, has_escapes=b"\\u" in body)
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    return value


def _says_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Parsers disagree about which of the two counts, so whoever checked the request may have seen the other.
        raise ValueError("an object has the same key twice")
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError("a number is too large")
    return number


def _int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS + 1 or not -(2**63) <= (number := int(digits)) < 2**63:
        raise ValueError("an integer does not fit into 64 bits")
    return number


def _check(value: Any, *, has_escapes: bool) -> None:  # noqa: ANN401 - as above
    """Raise ValueError for nesting too deep, and for the characters that only an escape can smuggle in."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
                if has_escapes:
                    for key in item:
                        storable(key)
            elif isinstance(item, list):
                inner += item
            elif has_escapes and isinstance(item, str):
                storable(item)
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _malformed(why: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "MALFORMED_JSON", f"The body cannot be read as JSON: {why}.")


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
).decode
