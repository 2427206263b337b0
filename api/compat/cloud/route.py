"""A route of the Cloud API's door: errors in the Graph API's shape, each with the number that its clients match on."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import Response

from api.compat.door_route import DoorRoute, Refused
from api.problems import Problem

_OAUTH: Final = "OAuthException"
# Status, number and words of theirs for a code of ours; a wrong value is told apart below.
_THEIRS: Final[Mapping[str, tuple[HTTPStatus, int, str]]] = {
    "UNAUTHORIZED": (HTTPStatus.UNAUTHORIZED, 190, "Invalid OAuth access token"),
    "FORBIDDEN": (HTTPStatus.FORBIDDEN, 10, "(#10) Application does not have permission for this action"),
    "RATE_LIMITED": (HTTPStatus.TOO_MANY_REQUESTS, 130429, "(#130429) Rate limit hit"),
    "INVALID_STATE": (HTTPStatus.BAD_REQUEST, 133010, "(#133010) Phone number not registered"),
    "NOT_FOUND": (HTTPStatus.BAD_REQUEST, 100, "(#100) Invalid parameter"),
    "IDEMPOTENCY_CONFLICT": (HTTPStatus.CONFLICT, 100, "(#100) Invalid parameter"),
    "BODY_TOO_LARGE": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 100, "(#100) Invalid parameter"),
}
_GONE: Final = (HTTPStatus.BAD_REQUEST, 131052, "(#131052) Media download error")
_AWAY: Final = (HTTPStatus.SERVICE_UNAVAILABLE, 2, "(#2) Service temporarily unavailable")
_INVALID: Final = (HTTPStatus.BAD_REQUEST, 100, "(#100) Invalid parameter")
_MISSING: Final = (HTTPStatus.BAD_REQUEST, 131008, "(#131008) Required parameter is missing")
_NOT_VALID: Final = (HTTPStatus.BAD_REQUEST, 131009, "(#131009) Parameter value is not valid")
_IS_MISSING: Final = "This is required."
_IS_UNKNOWN: Final = "There is no such field."


class Unsupported(Refused):
    """A kind of message that ZapHub does not send."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, "UNSUPPORTED_TYPE", detail)


class NoSuchObject(Refused):
    """A phone number id that the caller does not have, as the Graph API says it: a 400."""

    def __init__(self, name: str) -> None:
        super().__init__(
            HTTPStatus.BAD_REQUEST,
            "NO_SUCH_OBJECT",
            f"Unsupported request. Object with ID '{name}' does not exist, cannot be loaded due to missing "
            "permissions, or does not support this operation",
        )


class CloudRoute(DoorRoute):
    @classmethod
    def refusal(cls, problem: Problem, *, request_id: str) -> Response:
        """`details` are ours; `fbtrace_id` is the request id, which the log line has."""
        status, error = _error(problem)
        return Response(
            json.dumps({"error": {**error, "fbtrace_id": request_id}}, ensure_ascii=False),
            status_code=status,
            headers=problem.headers,
            media_type="application/json",
        )


def _error(problem: Problem) -> tuple[HTTPStatus, dict[str, Any]]:
    if isinstance(problem, NoSuchObject):
        told = {"message": problem.detail, "type": "GraphMethodException", "code": 100, "error_subcode": 33}
        return HTTPStatus.BAD_REQUEST, told
    status, number, message = _theirs(problem)
    error = {"message": message, "type": _OAUTH, "code": number}
    if problem.retryable:
        error["is_transient"] = True
    if problem.code == "UNAUTHORIZED":
        return status, error
    return status, {**error, "error_data": {"messaging_product": "whatsapp", "details": _details(problem)}}


def _theirs(problem: Problem) -> tuple[HTTPStatus, int, str]:
    if isinstance(problem, Unsupported):
        return HTTPStatus.BAD_REQUEST, 131051, "(#131051) Unsupported message type"
    if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or problem.code == "MEDIA_PENDING":
        return _AWAY
    if problem.status_code == HTTPStatus.GONE:
        return _GONE
    if problem.code in _THEIRS:
        return _THEIRS[problem.code]
    found = {one["detail"] for one in problem.errors or ()}
    if not found or _IS_UNKNOWN in found:
        return _INVALID
    return _MISSING if found == {_IS_MISSING} else _NOT_VALID


def _details(problem: Problem) -> str:
    if not problem.errors:
        return str(problem.detail)
    return " ".join(f"{one['pointer'].removeprefix('/').replace('/', '.')}: {one['detail']}" for one in problem.errors)
