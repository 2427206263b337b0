"""A route of a door: what goes wrong behind it is said in the words of the gateway whose clients come through it."""

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.json_body import JsonRoute
from api.problems import Problem, to_problem
from shared.db.pool import AWAY, COLLISION
from shared.domain.errors import ZapHubError

_EXPECTED: Final = (HTTPException, RequestValidationError, ZapHubError, *AWAY, *COLLISION)

_log = structlog.get_logger()


class Refused(Problem):
    """A refusal that only a door has. Its clients read English, whatever they prefer: the gateway they know does."""


class DoorRoute(JsonRoute):
    """Parses bodies and asks for keys as every route of the API does."""

    @classmethod
    def entered(cls, request: Request) -> Request:
        """The request as the API's own routes would get it."""
        return request

    @classmethod
    @abstractmethod
    def refusal(cls, problem: Problem, *, request_id: str) -> Response:
        """The answer that says in their words what went wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(self.entered(request))
            except _EXPECTED as error:
                problem = to_problem(error)
                if problem is None:
                    raise
                if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    cause = error.__cause__ or error
                    _log.warning(
                        "http_request_unavailable", request_id=request.state.request_id, error=type(cause).__name__
                    )
                return self.refusal(problem, request_id=request.state.request_id)

        return answer
