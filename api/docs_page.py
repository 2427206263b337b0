"""`/docs`: every call on one page, made from the OpenAPI document, without a script or anything from elsewhere."""

import json
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2rem 0 .5rem }
details { border: 1px solid #8884; border-radius: 6px; margin: .3rem 0; padding: .4rem .8rem }
summary { cursor: pointer } code, pre { font: 13px/1.45 ui-monospace, monospace } pre { overflow-x: auto }
b { display: inline-block; width: 4.5rem } td { padding: 0 1rem .2rem 0; vertical-align: top }
:root { color-scheme: light dark }
"""
# The page holds its own style and nothing that runs.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    groups: dict[str, list[str]] = {}
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            groups.setdefault(call.get("tags", ["other"])[0], []).append(_call(method, path, call, document))
    body = "".join(f"<h2>{escape(name)}</h2>{''.join(calls)}" for name, calls in groups.items())
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>ZapHub API</title><style>{STYLE}</style>'
        f"<h1>ZapHub API</h1><p>{escape(document['info']['description'])} "
        f'The same as <a href="openapi.json">OpenAPI</a>.</p>{body}</html>',
        headers={"Content-Security-Policy": POLICY},
    )


def _call(method: str, path: str, call: dict[str, Any], document: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}"
        f"<td>{escape(one.get('description') or one.get('schema', {}).get('description', ''))}"
        for one in call.get("parameters", [])
    )
    schema = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    body = "" if schema is None else f"<pre>{escape(json.dumps(_inlined(schema, document), indent=2))}</pre>"
    return (
        f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code> "
        f"{escape(call.get('summary', ''))}</summary><table>{parameters}</table>{body}</details>"
    )


def _inlined(schema: Any, document: dict[str, Any]) -> Any:  # noqa: ANN401 - a piece of a JSON document
    """The schema with every reference replaced by what it refers to; none of ours refers to itself."""
    if isinstance(schema, list):
        return [_inlined(one, document) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    return {key: _inlined(value, document) for key, value in schema.items() if key != "discriminator"}
