"""A route of Evolution's door: the header `apikey`, and errors in its shape."""

import json
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response

from api.compat.door_route import DoorRoute
from api.problems import Problem

PREFIX: Final = "/compat/evolution"


class EvolutionRoute(DoorRoute):
    @classmethod
    def entered(cls, request: Request) -> Request:
        """`apikey` is their name for `X-API-Key`. Both, with different keys, are refused as two different keys are."""
        headers = [(b"x-api-key" if name == b"apikey" else name, value) for name, value in request.headers.raw]
        return Request({**request.scope, "headers": headers}, request.receive)

    @classmethod
    def refusal(cls, problem: Problem, *, request_id: str) -> Response:
        """`code` and `request_id` are ours, beside theirs: docs/errors.md explains the codes."""
        status = _status(problem)
        body = {
            "status": status.value,
            "error": status.phrase,
            "response": {"message": _messages(problem), "code": problem.code, "request_id": request_id},
        }
        return Response(
            json.dumps(body, ensure_ascii=False),
            status_code=status,
            headers=problem.headers,
            media_type="application/json",
        )


def _status(problem: Problem) -> HTTPStatus:
    """Theirs know one status for whatever is wrong with a request or does not fit the instance's state."""
    status = HTTPStatus(problem.status_code)
    if status is HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    if status is HTTPStatus.CONFLICT and problem.code != "IDEMPOTENCY_CONFLICT":
        return HTTPStatus.BAD_REQUEST
    return status


def _messages(problem: Problem) -> Any:  # noqa: ANN401 - theirs is a list, or a word when the key is wrong
    if problem.status_code == HTTPStatus.UNAUTHORIZED:
        return "Unauthorized"
    if problem.errors is None:
        return [problem.detail]
    places = [(one["pointer"].removeprefix("/").replace("/", "."), one["detail"]) for one in problem.errors]
    return [f"{place}: {detail}" if place else detail for place, detail in places]
