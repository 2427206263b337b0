"""The OpenAPI document: what FastAPI knows of the routes, and what it cannot know: keys, scopes, limits and errors."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from api.examples import BODIES
from api.problem_shapes import Problem, described

_REF: Final = "#/components/schemas/{model}"
_TAGS: Final = {
    "connections": "WhatsApp numbers: create, open, close, pause, delete.",
    "pairing": "Linking a phone, by QR code or by a code to type.",
    "messages": "Send, list, follow, retry, cancel.",
    "chats": "Typing, read marks, which numbers are on WhatsApp.",
    "media": "Files to send, and files that came.",
    "queues": "The seven queues: numbers, pause, clean, dead letters.",
    "jobs": "One job by its readable id.",
    "webhooks": "Endpoints that are told what happens, and what was sent to them.",
    "events": "The durable log of what happened, by pages or as a stream.",
    "api keys": "Who may do what.",
    "health": "For whoever looks after the service; open without a key.",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer <key>`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, in this header."},
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "seconds until the same may succeed", "schema": {"type": "integer"}}
}
_RATE_LIMIT: Final = {
    "RateLimit": {
        "description": 'what is left of the key\'s quota, `"key";r=59;t=1` (draft-ietf-httpapi-ratelimit-headers)',
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": 'the quota, `"key";q=60000;w=60`', "schema": {"type": "string"}},
}
_LANGUAGE: Final = {
    "name": "Accept-Language",
    "in": "header",
    "required": False,
    "description": "of `title` and `detail` of problems: English (`en`) or Portuguese (`pt`)",
    "schema": {"type": "string"},
    "example": "pt-BR",
}
_IDEMPOTENCY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key again, within a day, is the same request and gets its answer; another body is a 409",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
    "example": "9b5c1c1e-5a0f-4b55-8a53-0a9a5d1f6c10",
}
_PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=15`: answer when the message has settled, at most that many seconds later (25 at most)",
    "schema": {"type": "string"},
    "example": "wait=15",
}
_EXTRA_PARAMETERS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "create_connection": (_IDEMPOTENCY,),
    "create_webhook": (_IDEMPOTENCY,),
    "send": (_IDEMPOTENCY, _PREFER),
    "send_batch": (_IDEMPOTENCY,),
}
_WITH_BODY: Final = (400, 408, 413, 415)
_ALWAYS: Final = (500, 503)


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        routes = [route for route in routes_of(app) if route.include_in_schema]
        made = get_openapi(
            title=app.title,
            version=app.version,
            summary="A self-hosted WhatsApp gateway.",
            description=app.description,
            routes=app.routes,
            tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            servers=[{"url": app.state.door.public_url or "/"}],
            separate_input_output_schemas=False,
        )
        for route in routes:
            assert route.path_format is not None, "an APIRoute has a path"
            for method in route.methods or ():
                _complete(made["paths"][route.path_format][method.lower()], route)
        _add_components(made["components"])
        app.openapi_schema = made
    return app.openapi_schema


def routes_of(app: FastAPI) -> Iterator[RouteContext]:
    """Every call of ours as it is served: those of routers that are included with a prefix have it."""
    return (route for route in iter_route_contexts(app.routes) if isinstance(route.original_route, APIRoute))


def scope_of(route: RouteContext) -> str | None:
    """The scope that a key needs for this route; None when it is open, or judges by itself."""
    return next(_scopes(route.dependant), None)


def _scopes(dependant: Dependant) -> Iterator[str]:
    for inner in dependant.dependencies:
        scope = getattr(inner.call, "scope", None)
        if scope is not None:
            yield str(scope)
        yield from _scopes(inner)


def _complete(call: dict[str, Any], route: RouteContext) -> None:
    scope = scope_of(route)
    statuses = set(_ALWAYS)
    if scope is not None:
        call["security"] = [{name: []} for name in _SECURITY]
        call["description"] = f"{call.get('description', '').rstrip()}\n\nNeeds the scope `{scope}`.".lstrip()
        call["x-required-scope"] = scope
        statuses |= {401, 403, 429}
    if "{" in str(route.path_format):
        statuses.add(404)
    if "requestBody" in call:
        statuses |= set(_WITH_BODY)
        _give_examples(call)
    parameters = [*call.get("parameters", []), *_EXTRA_PARAMETERS.get(call["operationId"], ()), _LANGUAGE]
    call["parameters"] = parameters
    if "422" in call["responses"] or len(parameters) > 1:
        statuses.add(422)
    for status in statuses:
        call["responses"][str(status)] = described(status)
    call["responses"] = dict(sorted(call["responses"].items()))
    for status, answer in call["responses"].items():
        if status in {"429", "503"}:
            answer["headers"] = {**answer.get("headers", {}), **_RETRY_AFTER}
        if scope is not None and (status[0] == "2" or status == "429"):
            answer["headers"] = {**answer.get("headers", {}), **_RATE_LIMIT}


def _give_examples(call: dict[str, Any]) -> None:
    examples = BODIES.get(call["operationId"])
    content = call["requestBody"]["content"].get("application/json")
    if examples and content is not None:
        content["examples"] = {
            name: {"summary": name.replace("_", " "), "value": value} for name, value in examples.items()
        }


def _add_components(components: dict[str, Any]) -> None:
    components["securitySchemes"] = _SECURITY
    schema = Problem.model_json_schema(ref_template=_REF)
    schemas = components.setdefault("schemas", {})
    schemas.update(schema.pop("$defs", {}))
    schemas["Problem"] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
