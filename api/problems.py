"""Errors as clients see them: `application/problem+json` (RFC 9457), each with a code that docs/errors.md explains.

Code says them in English; an answer is in the language that its client prefers (`api.language`).
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.catalogue import title_of, translated
from api.door import door
from api.language import Language, preferred
from shared.db.pool import AWAY, COLLISION
from shared.domain.errors import Conflict, HostUnreachable, InvalidInput, NotFound, Unavailable, ZapHubError
from shared.domain.message import MessageType

_log = structlog.get_logger()

_MAX_ERRORS: Final = 50
_OF_STATUS: Final = {
    HTTPStatus.BAD_REQUEST: ("VALIDATION_ERROR", "The request cannot be read."),
    HTTPStatus.NOT_FOUND: ("NOT_FOUND", "There is no such path. GET /openapi.json lists those there are."),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "METHOD_NOT_ALLOWED",
        "This path exists, but not with this method; see the Allow header.",
    ),
}


class Problem(HTTPException):
    """An answer that is a problem. An HTTPException, so that FastAPI lets it through from wherever a body is read."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retryable: bool = False,
        errors: Sequence[Mapping[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.retryable = retryable
        self.errors = errors

    def body(self, scope: Scope, language: Language) -> dict[str, Any]:
        """What the client reads."""
        members = {
            "type": f"{door(scope).public_url}/errors/{self.code}",
            "title": title_of(self.code, language),
            "status": self.status_code,
            "request_id": scope["state"]["request_id"],
        }
        return {**members, **self.summary(language)}

    def summary(self, language: Language = Language.ENGLISH) -> dict[str, Any]:
        """The problem of one part of a request that was answered as a whole."""
        members = {
            "code": self.code,
            "detail": translated(self.detail, language),
            "retryable": self.retryable,
        }
        if self.errors is None:
            return members
        errors = [{**one, "detail": translated(one["detail"], language)} for one in self.errors]
        return {**members, "errors": errors}

    def response(self, scope: Scope) -> Response:
        """The answer to the request of `scope`, in the language that it prefers."""
        language = preferred(scope)
        return Response(
            json.dumps(self.body(scope, language), ensure_ascii=True),
            status_code=self.status_code,
            headers={**(self.headers or {}), "Content-Language": language.value, "Vary": "Accept-Language"},
            media_type="application/problem+json",
        )


def invalid(errors: Sequence[InvalidInput]) -> Problem:
    """One 422 for all that is wrong; the code is the first error's."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        errors[0].public_code,
        errors[0].detail if len(errors) == 1 else f"{len(errors)} values are wrong; `errors` says which and why.",
        errors=[{"pointer": error.pointer, "detail": error.detail} for error in errors[:_MAX_ERRORS]],
    )


def to_problem(error: BaseException) -> Problem | None:
    """The problem that says what `error` means to a client; None when it is a fault of ours."""
    match error:
        case Problem():
            return error
        case InvalidInput():
            return invalid([error])
        case NotFound():
            return Problem(HTTPStatus.NOT_FOUND, error.public_code, error.detail)
        case Conflict():
            return Problem(HTTPStatus.CONFLICT, error.public_code, error.detail)
        case HostUnreachable() | Unavailable():
            return _away(error.public_code, error.detail)
        case RequestValidationError():
            return invalid([wrong_value(one) for one in error.errors()])
        case HTTPException():
            code, detail = _OF_STATUS.get(HTTPStatus(error.status_code), ("VALIDATION_ERROR", str(error.detail)))
            return Problem(error.status_code, code, detail, headers=error.headers)
        case _ if isinstance(error, COLLISION):
            return _away("UNAVAILABLE", "Another request changed the same objects at that moment; send this one again.")
        case _ if isinstance(error, AWAY):
            return _away("UNAVAILABLE", "Postgres does not answer; nothing was changed. Send the request again later.")
        case _:
            return None


def install(app: FastAPI) -> None:
    """Answer every expected error with its problem; what is left is caught at the edge."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = to_problem(error)
        if problem is None:
            raise error
        if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            cause = error.__cause__ or error
            request.scope["state"]["is_in_vain"] = isinstance(error, TimeoutError)
            _log.warning("http_request_unavailable", request_id=request.state.request_id, error=type(cause).__name__)
        return problem.response(request.scope)

    for kind in (HTTPException, RequestValidationError, ZapHubError, *AWAY, *COLLISION):
        app.add_exception_handler(kind, answer)


def _away(code: str, detail: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, retryable=True, headers={"Retry-After": "1"})


def wrong_value(error: Mapping[str, Any]) -> InvalidInput:
    """One of pydantic's errors. Its input is never shown: it may be a phone number or a secret."""
    return InvalidInput(_sentence(error), pointer=pointer_of(error["loc"]))


def _sentence(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "This is required."
        case "extra_forbidden":
            return "There is no such field."
        case "union_tag_not_found":
            return "This is required: `type` says what kind of message it is."
        case "union_tag_invalid":
            # pydantic's own message repeats what was sent.
            return f"Input should be {error['ctx']['expected_tags']}."
        case _:
            message = str(error["msg"]).removeprefix("Value error, ").removesuffix(".")
            return f"{message[:1].upper()}{message[1:]}."


def pointer_of(loc: Sequence[str | int]) -> str:
    """The JSON pointer of pydantic's location; query parameters are `?name`, headers their name."""
    where, *path = loc
    if where != "body":
        return f"?{path[0]}" if where == "query" and path else str(path[0] if path else where)
    if len(path) > 1 and path[0] in set(MessageType):
        # The tag of a discriminated union, which is not part of the body. No body has a field named after a type.
        path = path[1:]
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
