"""The calls that read their arguments themselves refuse what any other call refuses, in the same words."""

import json
from typing import Any, Final

import httpx
import pytest
from fastapi import APIRouter

from api.lean_route import LeanRoute

_JSON: Final = {"Content-Type": "application/json"}
_BODY: Final = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}


@pytest.mark.parametrize(
    ("content", "headers", "status", "code", "pointers"),
    [
        (b"", _JSON, 422, "VALIDATION_ERROR", [""]),
        (b"", {}, 422, "VALIDATION_ERROR", [""]),
        (b"{", _JSON, 400, "MALFORMED_JSON", []),
        (b"{}", {}, 415, "UNSUPPORTED_MEDIA_TYPE", []),
        (b"{}", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE", []),
        (b"[]", _JSON, 422, "VALIDATION_ERROR", [""]),
        (b"null", _JSON, 422, "VALIDATION_ERROR", [""]),
        (b'{"to": 1, "type": "text", "payload": {}}', _JSON, 422, "VALIDATION_ERROR", ["/to", "/payload/text"]),
    ],
)
async def test_a_body_that_is_none_is_refused(
    api: httpx.AsyncClient,
    connection: dict[str, Any],
    content: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
    pointers: list[str],
) -> None:
    answer = await api.post(f"/connections/{connection['id']}/send", content=content, headers=headers)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert [one["pointer"] for one in problem.get("errors", [])] == pointers


async def test_everything_that_is_wrong_is_said_at_once(api: httpx.AsyncClient) -> None:
    answer = await api.post("/connections/none/send", json={**_BODY, "to": "x"})

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["connection_id", "/to"]


@pytest.mark.parametrize("spelling", ["{:}", "urn:uuid:{:}", "{{{:}}}"])
async def test_a_connection_may_be_spelt_as_anywhere_else(
    api: httpx.AsyncClient, connection: dict[str, Any], spelling: str
) -> None:
    spelt = spelling.format(connection["id"])

    sent = await api.post(f"/connections/{spelt}/send", json=_BODY)

    assert sent.status_code == (await api.get(f"/connections/{spelt}")).status_code + 2


async def test_who_has_no_key_is_told_so_before_the_body_is_looked_at(
    api: httpx.AsyncClient, connection: dict[str, Any]
) -> None:
    answer = await api.post(
        f"/connections/{connection['id']}/send", content=b"{", headers={**_JSON, "Authorization": "Bearer wrong"}
    )

    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")


async def test_the_document_says_what_they_take(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]

    for path in ("/connections/{connection_id}/send", "/connections/{connection_id}/send/batch"):
        assert "requestBody" in paths[path]["post"], json.dumps(paths[path])[:200]


def test_an_endpoint_that_wants_something_else_is_refused_when_it_is_declared() -> None:
    router = APIRouter(route_class=LeanRoute)

    with pytest.raises(TypeError, match="connection_id"):

        @router.post("/things/{thing_id}")
        async def make(thing_id: str) -> None:
            """Do nothing."""
