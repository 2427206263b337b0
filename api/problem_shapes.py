"""Errors in the OpenAPI document: the one model of a problem, and why a call may answer with which status."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE: Final = "application/problem+json"


class WrongValue(BaseModel):
    """One value of the request that is wrong."""

    model_config = ConfigDict(extra="forbid")

    pointer: str = Field(
        examples=["/to"], description="a JSON pointer into the body; `?name` of a query parameter; a header's name"
    )
    detail: str = Field(examples=["Write the phone number as 7 to 15 digits with its country code."])


class PartProblem(BaseModel):
    """What is wrong with one part of a request that was answered as a whole."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(examples=["VALIDATION_ERROR"], description="stable; docs/errors.md explains each")
    detail: str = Field(examples=["This is required."], description="for people; may change, and is translated")
    retryable: bool = Field(examples=[False], description="whether the same may succeed later, unchanged")
    errors: list[WrongValue] | None = Field(None, description="with every 422: each wrong value")


class Problem(PartProblem):
    """An error (RFC 9457). Match on `code`; `Accept-Language` chooses the language of `title` and `detail`."""

    type: str = Field(examples=["/errors/VALIDATION_ERROR"], description="leads to a page about the code")
    title: str = Field(examples=["The request has a wrong value"])
    status: int = Field(examples=[422])
    request_id: str = Field(examples=["6f1c2b7d0e5a4c9fb2d8a1e3f4c5d6e7"], description="also in the service's log")


_WHY: Final[Mapping[int, tuple[str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("MALFORMED_JSON", "the body is not JSON, or JSON that cannot be kept"),
    HTTPStatus.UNAUTHORIZED: ("UNAUTHORIZED", "the key or ticket is missing, wrong, expired, used or revoked"),
    HTTPStatus.FORBIDDEN: ("FORBIDDEN", "the key lacks the scope, or is limited to some connections"),
    HTTPStatus.NOT_FOUND: ("NOT_FOUND", "there is none, or the key may not see it"),
    HTTPStatus.REQUEST_TIMEOUT: ("REQUEST_TIMEOUT", "the body did not arrive in time"),
    HTTPStatus.CONFLICT: ("INVALID_STATE", "the object's state forbids this, or the key was used for another body"),
    HTTPStatus.GONE: ("EVENT_GONE", "it was there, and is no longer"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("BODY_TOO_LARGE", "the body is longer than the call takes"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("UNSUPPORTED_MEDIA_TYPE", "the body is of another kind than the call takes"),
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: ("RANGE_NOT_SATISFIABLE", "there is no byte in this range"),
    HTTPStatus.UNPROCESSABLE_ENTITY: ("VALIDATION_ERROR", "`errors` names each wrong value"),
    HTTPStatus.TOO_MANY_REQUESTS: ("RATE_LIMITED", "too many requests; `Retry-After` says when to come back"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("INTERNAL", "a fault of ZapHub's own; the log has the request_id"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("UNAVAILABLE", "a part that is needed does not answer, or there is too much work"),
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's own errors for the OpenAPI document. Those that every call has, `api.openapi` adds."""
    return {int(status): described(status) for status in sorted(statuses)}


def described(status: int) -> dict[str, Any]:
    """One error answer, with an example; its schema is the model above, under `components`."""
    code, why = _WHY[status]
    example = {
        "type": f"/errors/{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "request_id": "6f1c2b7d0e5a4c9fb2d8a1e3f4c5d6e7",
        "code": code,
        "detail": f"{why[:1].upper()}{why[1:]}.",
        "retryable": status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500,  # noqa: PLR2004 - a 5xx
        **({"errors": [{"pointer": "/to", "detail": "This is required."}]} if code == "VALIDATION_ERROR" else {}),
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": f"`{code}`: {why}", "content": content}
