"""API Gateway's HTTP API before a function: payload version 2.0, one route for all, 30 s at most.

Facts: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import time
from collections import defaultdict
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from local.lambda_runtime.environment import InvocationFailed
from local.lambda_runtime.function import Function

# Of a request and of an answer; Lambda's own limit is 6 MB, base64 and all.
_MAX_BODY: Final = 10 * 2**20
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"})


def app(function: Function) -> web.Application:
    """The application that hands every request to the function."""

    async def answer(request: web.Request) -> web.Response:
        event = _event(request, await request.read())
        try:
            return _response(await function.invoke(event))
        except InvocationFailed:
            return web.json_response({"message": "Internal Server Error"}, status=500)

    application = web.Application(client_max_size=_MAX_BODY)
    application.router.add_route("*", "/{path:.*}", answer)
    return application


def _event(request: web.Request, body: bytes) -> dict[str, Any]:
    headers: dict[str, list[str]] = defaultdict(list)
    cookies = []
    for name, value in request.headers.items():
        if name.lower() == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        elif name.lower() not in _HOP_BY_HOP:
            headers[name.lower()].append(value)
    query: dict[str, list[str]] = defaultdict(list)
    for name, value in request.query.items():
        query[name].append(value)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": unquote(request.raw_path.partition("?")[0]),
        "rawQueryString": request.query_string if not request.query else request.raw_path.partition("?")[2],
        "headers": {name: ",".join(values) for name, values in headers.items()},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": request.host,
            "stage": "$default",
            "routeKey": "$default",
            "requestId": request.headers.get("x-amzn-requestid", ""),
            "timeEpoch": int(time.time() * 1000),
            "http": {
                "method": request.method,
                "path": unquote(request.raw_path.partition("?")[0]),
                "protocol": "HTTP/1.1",
                "sourceIp": request.remote or "127.0.0.1",
                "userAgent": request.headers.get("user-agent", ""),
            },
        },
        "isBase64Encoded": bool(body),
    }
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in query.items()}
    if body:
        event["body"] = base64.b64encode(body).decode()
    return event


def _response(answer: Any) -> web.Response:  # noqa: ANN401 - what the handler said
    if not isinstance(answer, dict) or "statusCode" not in answer:
        return web.json_response(answer)
    text = answer.get("body") or ""
    body = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
    response = web.Response(status=answer["statusCode"], body=body)
    for name, value in (answer.get("headers") or {}).items():
        if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
            response.headers[name] = value
    for cookie in answer.get("cookies") or []:
        response.headers.add("Set-Cookie", cookie)
    return response
