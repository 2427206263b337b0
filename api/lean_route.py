"""A JSON route for the busiest calls, which reads their arguments without FastAPI's solver of dependencies.

FastAPI works out anew for every request what an endpoint wants, which took as long as all else in its process together.
The endpoint of such a route always wants the same: who asks, a connection, a body. It is declared as any other, so that
the OpenAPI document and the errors are the same too.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from api.json_body import JsonRequest, JsonRoute
from api.resources import resources

_UUID: Final = TypeAdapter(UUID)
_WANTED: Final = {"request", "connection_id", "body", "caller", "parts"}


class LeanRoute(JsonRoute):
    """Its endpoint takes `request`, the `connection_id` of its path, a JSON `body`, its `caller` and `parts`.

    Who asks is looked at before the body is read.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Raises TypeError for an endpoint that wants something else."""
        endpoint, body_field = self.dependant.call, self.body_field
        checks = {str(one.name): one.call for one in self.dependant.dependencies}
        wanted = {"request", *checks, *(one.name for one in (*self.dependant.path_params, *self.dependant.body_params))}
        if wanted != _WANTED or endpoint is None or body_field is None:
            raise TypeError(f"a lean route's endpoint takes {sorted(_WANTED)}, not {sorted(wanted)}")
        check: Any = checks["caller"]
        said: Any = self.dependant.body_params[0].field_info
        body_type: TypeAdapter[Any] = TypeAdapter(Annotated[said.annotation, said])

        async def handle(plain: Request) -> Response:
            request = JsonRequest(plain.scope, plain.receive)
            parts = await resources(request)
            caller = await check(request, parts)
            connection_id, wrong = _read(_UUID, request.path_params["connection_id"], "path", "connection_id")
            body, wrong_body = await _body(request, body_type)
            if wrong or wrong_body:
                raise RequestValidationError([*wrong, *wrong_body])
            response: Response = await endpoint(
                request=request, connection_id=connection_id, body=body, caller=caller, parts=parts
            )
            return response

        return handle


async def _body(request: JsonRequest, body_type: TypeAdapter[Any]) -> tuple[Any, list[Any]]:
    if not await request.body():
        return None, [{"type": "missing", "loc": ("body",), "msg": "Field required"}]
    request.require_json()
    return _read(body_type, await request.json(), "body")


def _read(type_: TypeAdapter[Any], value: Any, *where: str) -> tuple[Any, list[Any]]:  # noqa: ANN401 - any JSON
    """The value as its type has it, or what is wrong with it and where."""
    try:
        return type_.validate_python(value), []
    except ValidationError as error:
        return None, [{**one, "loc": (*where, *one["loc"])} for one in error.errors(include_url=False)]
