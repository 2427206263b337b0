"""Linking a phone: the QR code to scan, the code to type. Either is the key to an account: nothing logs it."""

import io
from base64 import b64encode
from http import HTTPStatus
from typing import Annotated, Any, Final, assert_never
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.answers import answer
from api.auth import Principal
from api.connection_shapes import PairCodeShown, QrCode
from api.inputs import Input, PairCode
from api.json_body import JsonRoute
from api.problem_shapes import errors
from api.problems import Problem
from api.resources import Resources
from api.routes.connections import Parts, Writer
from api.waiting import poll
from shared.db import lifecycle
from shared.db.lifecycle import PairingView
from shared.domain.errors import Conflict, HostUnreachable, NotFound
from shared.domain.ids import ConnectionId
from shared.domain.session import SessionStatus
from shared.hosts import protocol

router = APIRouter(tags=["pairing"], route_class=JsonRoute)

MAX_WAIT_S: Final = 25
_SCALE: Final = 8  # pixels of a module
_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_JSON, _PNG, _SVG, _TEXT = "application/json", "image/png", "image/svg+xml", "text/plain"
PENDING: Final = frozenset({SessionStatus.INITIALIZING, SessionStatus.QR_PENDING, SessionStatus.CONNECTING})
# Why an opening failed, where the reason is a code of its own.
_TOLD_REASONS: Final = frozenset({"PAIRING_EXPIRED", "CLIENT_OUTDATED"})


class ShowQr(Input):
    wait: Annotated[float, Field(ge=0, le=MAX_WAIT_S, description="seconds to wait for a code")] = 0


@router.get(
    "/connections/{connection_id}/qr",
    summary="Show the QR code to scan",
    response_model=QrCode,
    responses={
        200: {
            "description": "The code, as the kind that `Accept` asks for",
            "content": {_PNG: _BINARY, _SVG: {"schema": {"type": "string"}}, _TEXT: {"schema": {"type": "string"}}},
        },
        **errors(409),
    },
)
async def show_qr(
    request: Request, connection_id: UUID, query: Annotated[ShowQr, Query()], caller: Writer, parts: Parts
) -> Response:
    """As a picture (`image/png`, `image/svg+xml`), the raw code (`text/plain`) or JSON, the default.

    With `wait` it is answered as soon as there is one. Whoever scans it takes the account: show it to nobody else.
    """
    kind = _wanted(request.headers.get("accept", ""))
    view = await pairing_view(parts, caller, connection_id, wait_s=query.wait)
    if view.qr_code is None or view.qr_expires_at is None:
        raise _refusal(view)
    return _drawn(view, view.qr_code, kind)


@router.post(
    "/connections/{connection_id}/pair-code",
    summary="Get a code to type on the phone",
    response_model=PairCodeShown,
    responses=errors(409),
)
async def show_pair_code(connection_id: UUID, body: PairCode, caller: Writer, parts: Parts) -> Response:
    """Only while a QR code is shown; it is typed on the phone, where it offers to link with the number instead."""
    shown = await pair_code(parts, caller, connection_id, phone=body.phone)
    return answer({"code": shown.code, "expires_at": shown.expires_at})


async def pairing_view(parts: Resources, caller: Principal, connection_id: UUID, *, wait_s: float) -> PairingView:
    """What there is to show to a phone, once there is a QR code or none will come, or after `wait_s` seconds.

    Raises NotFound.
    """
    seen: PairingView | None = None

    async def look() -> PairingView | None:
        nonlocal seen
        seen = await lifecycle.pairing(
            parts.queues.pool, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids
        )
        if seen is None:
            raise NotFound("There is no such connection.")
        return seen if seen.qr_code is not None or seen.status not in PENDING else None

    view = await poll(parts, look, wait_s=wait_s) or seen
    assert view is not None, "it looked at least once"
    return view


async def pair_code(parts: Resources, caller: Principal, connection_id: UUID, *, phone: str) -> protocol.CodeShown:
    """A code to type on the phone. Raises NotFound, HostUnreachable, and Conflict or Problem 409 saying why not."""
    view = await pairing_view(parts, caller, connection_id, wait_s=0)
    if view.status is not SessionStatus.QR_PENDING:
        raise _refusal(view)
    if parts.hosts is None:
        raise HostUnreachable("The API cannot ask a session host: ZAPHUB_HOST_TOKEN is not set.")
    owner = await parts.hosts.owner(ConnectionId(connection_id))
    if owner is None:
        raise HostUnreachable("No session host holds the connection now; one will take it soon.")
    shown = await parts.hosts.pair_code(
        owner, protocol.PairCode(connection_id=connection_id, epoch=owner.epoch, phone=phone)
    )
    match shown:
        case protocol.CodeShown():
            return shown
        case protocol.Refused(code=code, detail=detail, permanent=permanent):
            raise Problem(HTTPStatus.CONFLICT, code, detail, retryable=not permanent)
        case protocol.NotOwner():
            raise HostUnreachable("The connection has just moved to another session host.")
        case protocol.NotConnected():
            raise _refusal(view)
        case _:
            assert_never(shown)


def _drawn(view: PairingView, code: str, kind: str) -> Response:
    if kind == _TEXT:
        return Response(code, media_type=_TEXT)
    # Here, as few requests draw and every start would pay for it.
    import segno  # noqa: PLC0415

    drawing = segno.make(code, error="l", micro=False)
    image = io.BytesIO()
    if kind == _SVG:
        drawing.save(image, kind="svg", scale=_SCALE)
        return Response(image.getvalue(), media_type=_SVG)
    drawing.save(image, kind="png", scale=_SCALE)
    if kind == _PNG:
        return Response(image.getvalue(), media_type=_PNG)
    return answer(
        {
            "code": code,
            "png_base64": b64encode(image.getvalue()).decode(),
            "expires_at": view.qr_expires_at,
            "attempt": view.qr_attempt,
        }
    )


def _refusal(view: PairingView) -> Exception:
    match view.status:
        case SessionStatus.FAILED if view.status_reason in _TOLD_REASONS:
            return Conflict(
                "The opening ended without a link; POST /connections/{id}/start begins anew.", code=view.status_reason
            )
        case SessionStatus.CONNECTED:
            return Conflict(
                "The connection is linked and connected; there is nothing to scan.", code="ALREADY_CONNECTED"
            )
        case SessionStatus.PASSKEY_REQUIRED:
            return Conflict("WhatsApp asks for a passkey, which only the phone can give.", code="PASSKEY_REQUIRED")
        case status if status in PENDING:
            return Problem(
                HTTPStatus.CONFLICT,
                "QR_NOT_READY",
                f"There is no QR code yet; ask again with ?wait={MAX_WAIT_S}.",
                retryable=True,
                headers={"Retry-After": "1"},
            )
        case status:
            return Conflict(
                f"The connection is {status} and shows no QR code; POST /connections/{{id}}/start opens it.",
                code="QR_NOT_READY",
            )


def _wanted(accept: str) -> str:
    """The best of the four kinds that the client takes; JSON when it takes anything, or none of them."""
    best, best_weight = _JSON, 0.0
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        kind = {"*/*": _JSON, "application/*": _JSON, "image/*": _PNG, "text/*": _TEXT}.get(kind, kind)
        weight = _weight(parameters)
        if kind in {_JSON, _PNG, _SVG, _TEXT} and weight > best_weight:
            best, best_weight = kind, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return max(0.0, min(1.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0
