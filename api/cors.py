"""Which web pages may call: those of ZAPHUB_CORS_ORIGINS, with a key of their own, never with cookies."""

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.door import Door, door
from api.exchange import dress


class CorsBySetting:
    """The outermost layer. The setting is known only once the app has started, so the real one is made then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._allowing: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = door(scope).cors_origins if scope["type"] == "http" else ()
        if not origins:
            await self._app(scope, receive, send)
            return
        if self._allowing is None:
            self._allowing = _allowing(self._app, origins)
        if scope["method"] == "OPTIONS":
            send = _dressed(scope, send, door(scope))
        await self._allowing(scope, receive, send)


def _allowing(app: ASGIApp, origins: tuple[str, ...]) -> CORSMiddleware:
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        # A key is sent by the page itself; a cookie of ours would be sent for it.
        allow_credentials=False,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=[
            *("Authorization", "X-API-Key", "apikey", "Content-Type", "Accept-Language"),
            *("Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-ID"),
        ],
        expose_headers=[
            *("X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "Preference-Applied"),
            *("Content-Language", "Last-Event-ID"),
        ],
        max_age=600,
    )


def _dressed(scope: Scope, send: Send, held: Door) -> Send:
    """A preflight is answered out here, so it is dressed out here."""

    async def send_dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "x-request-id" not in headers:
                dress(headers, {**scope, "state": {"request_id": "preflight"}}, held)
        await send(message)

    return send_dressed
