"""The control API: what a test, the demo and a session host ask of the server. Loopback only, no key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from json import JSONDecodeError
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError

from local.fake_whatsapp import calls, history, incoming, mailbox, pairing
from local.fake_whatsapp.compose import compose
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.faults import IMMEDIATE, STANDING
from local.fake_whatsapp.groups import Group
from local.fake_whatsapp.pairing import PairingRefused
from local.fake_whatsapp.phones import phone_jid
from local.fake_whatsapp.protocol.node import GROUP_SERVER
from local.fake_whatsapp.requests import (
    CallRequest,
    ContactRequest,
    FaultRequest,
    GroupRequest,
    InboundRequest,
    LinkCodeRequest,
    ReceiptRequest,
    Request,
    ScanRequest,
    SignalsQuery,
    WireQuery,
)
from local.fake_whatsapp.strikes import strike

LARGEST_BODY_BYTES = 96 * 1024 * 1024
Body = TypeVar("Body", bound=Request)


class Refused(Exception):
    """The request changed nothing; `status` and the text are the answer."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def application(exchange: Exchange, *, proxy_url: str) -> web.Application:
    """The routes; see CONTRACT section 5 for what each promises."""
    control = Control(exchange, proxy_url=proxy_url)
    app = web.Application(client_max_size=LARGEST_BODY_BYTES, middlewares=[_answer_refusals])
    app.add_routes(
        [
            web.get("/connector", control.connector),
            web.post("/scan", control.scan),
            web.post("/link-code", control.link_code),
            web.post("/contacts", control.put_contact),
            web.post("/groups", control.put_group),
            web.post("/inbound", control.post_inbound),
            web.post("/receipts", control.post_receipt),
            web.post("/calls", control.post_call),
            web.get("/wire", control.wire),
            web.get("/signals", control.signals),
            web.get("/sessions", control.sessions),
            web.post("/faults", control.order_fault),
            web.delete("/faults", control.clear_faults),
        ]
    )
    return app


class Control:
    """One method per route. What a 2xx says is on disk."""

    def __init__(self, exchange: Exchange, *, proxy_url: str) -> None:
        self._exchange = exchange
        self._proxy_url = proxy_url

    async def connector(self, _: web.Request) -> web.Response:
        identity = self._exchange.identity
        found = {"proxy_url": self._proxy_url, "ca_pem": identity.ca_pem, "root_public_key": identity.root.public.hex()}
        return web.json_response(found)

    async def scan(self, request: web.Request) -> web.Response:
        body = await _parse(request, ScanRequest)
        device = await pairing.scan(self._exchange, qr=body.qr, phone=body.phone)
        if body.history:
            await history.post(self._exchange, phone=device.phone, chats=body.history)
            await self._mail_for(device.phone)
        return web.json_response({"phone": device.phone, "jid": device.jid})

    async def link_code(self, request: web.Request) -> web.Response:
        body = await _parse(request, LinkCodeRequest)
        device = await pairing.enter_code(self._exchange, code=body.code, phone=body.phone)
        return web.json_response({"phone": device.phone, "jid": device.jid})

    async def put_contact(self, request: web.Request) -> web.Response:
        body = await _parse(request, ContactRequest)
        contact = self._exchange.contacts.get(body.phone)
        said = body.model_dump(exclude_none=True)
        for name in ("auto_receipts", "spellings"):
            if name in said:
                said[name] = tuple(said[name])
        contact = replace(contact, **said)
        self._exchange.contacts.put(contact)
        await self._exchange.store.durable()
        return web.json_response(
            {
                "phone": contact.phone,
                "name": contact.name,
                "on_whatsapp": contact.on_whatsapp,
                "auto_receipts": list(contact.auto_receipts),
                "receipt_delay_ms": contact.receipt_delay_ms,
                "addressing": contact.addressing,
                "spellings": list(contact.spellings),
            }
        )

    async def put_group(self, request: web.Request) -> web.Response:
        body = await _parse(request, GroupRequest)
        group = Group(
            body.jid or self._exchange.groups.new_jid(), body.subject, tuple(body.members), tuple(body.without)
        )
        self._exchange.groups.put(group)
        await self._exchange.store.durable()
        said = {"jid": group.jid, "subject": group.subject, "members": list(group.members)}
        return web.json_response({**said, "without": list(group.without)})

    async def post_inbound(self, request: web.Request) -> web.Response:
        body = await _parse(request, InboundRequest)
        exchange = self._exchange
        self._require_session(body.session_phone)
        poll_secret = self._poll_secret(body)
        message = await asyncio.to_thread(
            compose,
            body.type,
            body.content(),
            contact=body.to or body.sender,
            session_phone=body.session_phone,
            media=exchange.media,
            now_s=time.time(),
            group=body.group,
            poll_secret=poll_secret,
        )
        wire_id = body.id or incoming.new_wire_id()
        if exchange.mailbox.holds(body.session_phone, wire_id):
            raise Refused(HTTPStatus.CONFLICT, f"a message {wire_id} was written to this session before")
        exchange.mailbox.post(
            body.session_phone,
            contact=body.sender,
            kind=mailbox.MESSAGE,
            wire_id=wire_id,
            body=message,
            delay_ms=-body.age_s * 1000,
            chat=phone_jid(body.to) if body.to else body.group or "",
            garbled=body.undecryptable,
        )
        await self._mail_for(body.session_phone)
        return web.json_response({"wire_id": wire_id})

    async def post_receipt(self, request: web.Request) -> web.Response:
        body = await _parse(request, ReceiptRequest)
        self._require_session(body.session_phone)
        contact = await asyncio.to_thread(self._exchange.wire.recipient_of, body.session_phone, body.wire_id)
        if contact is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"this session sent no message {body.wire_id}")
        group = contact if GROUP_SERVER in contact else ""
        if group:
            contact = body.participant or self._exchange.groups.get(group).members[0]
        self._exchange.mailbox.post(
            body.session_phone,
            contact=contact,
            kind=mailbox.RECEIPT,
            wire_id=body.wire_id,
            body=body.type.encode(),
            chat=group,
        )
        await self._mail_for(body.session_phone)
        return web.json_response({"wire_id": body.wire_id, "type": body.type})

    async def post_call(self, request: web.Request) -> web.Response:
        body = await _parse(request, CallRequest)
        self._require_session(body.session_phone)
        session = self._exchange.live.get(body.session_phone)
        if session is None:
            raise Refused(HTTPStatus.CONFLICT, "a call rings at connected sessions, and this one is not")
        call_id = body.id or calls.new_call_id()
        by_alias = self._exchange.contacts.get(body.sender).addressing != "pn"
        await session.ring(calls.offer(self._exchange.contacts.phone(body.sender), call_id, by_alias=by_alias))
        return web.json_response({"call_id": call_id})

    async def wire(self, request: web.Request) -> web.Response:
        query = WireQuery.model_validate(dict(request.query))
        rows = await asyncio.to_thread(
            self._exchange.wire.rows, session_phone=query.session_phone, contact=query.contact, after=query.after
        )
        return web.json_response({"data": rows})

    async def signals(self, request: web.Request) -> web.Response:
        query = SignalsQuery.model_validate(dict(request.query))
        await self._exchange.store.durable()
        rows = await asyncio.to_thread(
            self._exchange.signals.rows, session_phone=query.session_phone, after=query.after
        )
        return web.json_response({"data": rows})

    async def sessions(self, _: web.Request) -> web.Response:
        found = [
            {
                "phone": device.phone,
                "jid": device.jid,
                "connected": device.phone in self._exchange.live,
                "connects": device.connects,
            }
            for device in self._exchange.devices.all()
        ]
        return web.json_response({"data": found})

    async def order_fault(self, request: web.Request) -> web.Response:
        fault = (await _parse(request, FaultRequest)).fault()
        if fault.session_phone is not None and fault.kind not in STANDING:
            self._require_session(fault.session_phone)
        if fault.kind not in IMMEDIATE:
            self._exchange.faults.order(fault)
            return web.json_response({"kind": fault.kind, "struck": []})
        struck = await strike(self._exchange, fault)
        if fault.session_phone is not None and not struck:
            raise Refused(HTTPStatus.CONFLICT, f"{fault.kind} strikes connected sessions, and this one is not")
        return web.json_response({"kind": fault.kind, "struck": struck})

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._exchange.faults.clear()
        return web.json_response({})

    def _poll_secret(self, body: InboundRequest) -> bytes:
        poll = body.poll()
        if poll is None:
            return b""
        secret = self._exchange.polls.secret(body.session_phone, poll)
        if secret is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"this session sent no poll {poll} that can be voted in")
        return secret

    async def _mail_for(self, phone: str) -> None:
        await self._exchange.store.durable()
        if session := self._exchange.live.get(phone):
            session.wake()

    def _require_session(self, phone: str) -> None:
        if self._exchange.devices.get(phone) is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"no device of {phone} is linked")


async def _parse(request: web.Request, model: type[Body]) -> Body:
    try:
        body = await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from error
    return model.model_validate(body)


@web.middleware
async def _answer_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValidationError as error:
        problems = [
            {"pointer": "/" + "/".join(map(str, problem["loc"])), "detail": problem["msg"]}
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request does not fit", errors=problems)
    except ValueError as error:
        return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    except (Refused, PairingRefused) as error:
        return _problem(HTTPStatus(error.status), str(error))
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), error.reason)


def _problem(status: HTTPStatus, detail: str, **more: object) -> web.Response:
    body = {"title": status.phrase, "status": int(status), "detail": detail, **more}
    return web.json_response(body, status=int(status), content_type="application/problem+json")
