"""`instance/*`: an instance is a connection, and its name the connection's external id."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api import connection_proxies, lifecycle
from api.answers import answer
from api.auth import Principal
from api.compat import named
from api.compat.accepting import told_at
from api.compat.door_route import Refused
from api.compat.evolution import webhook
from api.compat.evolution.inputs import Lenient, instance_of
from api.compat.evolution.instance_inputs import (
    INTEGRATION,
    CreateInstance,
    instance_shown,
    qrcode_shown,
    settings_shown,
)
from api.compat.evolution.route import PREFIX, EvolutionRoute
from api.idempotency_key import keyed_request
from api.inputs import CreateConnection
from api.problems import Problem
from api.resources import Resources
from api.routes import pairing
from api.routes.connections import Parts, Reader, Writer
from shared.db import api_keys, connections
from shared.db.api_keys import Scope
from shared.domain.content import Phone
from shared.domain.errors import Conflict, HostUnreachable
from shared.domain.ids import ConnectionId
from shared.domain.session import SessionStatus
from shared.queues.runtime import Transaction
from shared.webhooks.formats.evolution import pairing_code, state_of

router = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)

# So long an answer waits for a QR code; theirs waits 5 s in `create` and 2 s in `connect`.
_QR_WAIT_S: Final = 5.0
_PAGE: Final = 200
# What the key of one instance may do, as far as whoever creates it may do it.
_SCOPES_OF_ONE: Final = (
    Scope.CONNECTIONS_READ,
    Scope.CONNECTIONS_WRITE,
    Scope.MESSAGES_READ,
    Scope.MESSAGES_WRITE,
    Scope.WEBHOOKS_READ,
    Scope.WEBHOOKS_WRITE,
)


class Connect(Lenient):
    number: Phone | None = None


class FetchInstances(Lenient):
    instanceName: str | None = None  # noqa: N815 - theirs, in a query
    instanceId: str | None = None  # noqa: N815 - as above


@router.post("/instance/create")
async def create_instance(request: Request, body: CreateInstance, caller: Writer, parts: Parts) -> Response:
    """Connection, webhook and key in one transaction; then it waits a little for the QR code."""
    caller.require_all_connections()
    if body.webhook is not None and not caller.may(Scope.WEBHOOKS_WRITE):
        raise Refused(HTTPStatus.FORBIDDEN, "FORBIDDEN", f"The API key lacks the scope {Scope.WEBHOOKS_WRITE}")
    target = None if body.webhook is None else await webhook.judged(parts, body.webhook)
    keyed = await keyed_request(request, caller)
    wanted = CreateConnection(label=body.name, external_id=body.name, config=body.config())
    with told_at({"/config/proxy": "/proxyHost"}):
        await connection_proxies.judge(parts, wanted.config)
    key = None
    try:
        async with parts.queues.transaction() as tx:
            changed = await lifecycle.create_within(tx, parts, caller, wanted, keyed)
            connection_id = UUID(changed.connection["id"])
            if not changed.is_repeated:
                if body.webhook is not None:
                    await webhook.put(tx, parts, caller, connection_id, body.webhook, target)
                key = await _key_of_one(tx, caller, body.name, ConnectionId(connection_id))
    except Conflict as error:
        if keyed is not None or error.public_code != "IDEMPOTENCY_CONFLICT":
            raise
        raise Refused(HTTPStatus.FORBIDDEN, "FORBIDDEN", f'This name "{body.name}" is already in use.') from None
    shown = {
        "instance": {
            "instanceName": body.name,
            "instanceId": connection_id,
            "integration": INTEGRATION,
            "webhookWaBusiness": None,
            "accessTokenWaBusiness": "",
            "status": state_of(changed.connection["status"]),
        },
        "hash": key,
        "webhook": _webhook_shown(body),
        "websocket": {"enabled": False},
        "rabbitmq": {"enabled": False},
        "nats": {"enabled": False},
        "sqs": {"enabled": False},
        "settings": settings_shown(changed.connection),
    }
    if body.qrcode:
        shown["qrcode"] = await _qrcode(parts, caller, connection_id, number=body.number)
    return answer(shown, status=HTTPStatus.CREATED)


@router.get("/instance/connect/{instance}")
async def connect_instance(instance: str, query: Annotated[Connect, Query()], caller: Writer, parts: Parts) -> Response:
    """A GET that opens the connection, as theirs does; with `number` it brings a code to type too."""
    found = await instance_of(parts, caller, instance)
    connection_id = UUID(found["id"])
    view = await pairing.pairing_view(parts, caller, connection_id, wait_s=0)
    if view.status is SessionStatus.CONNECTED:
        return answer(_state_shown(found, view.status))
    if view.status not in pairing.PENDING:
        await lifecycle.start(parts, caller, connection_id)
    return answer(await _qrcode(parts, caller, connection_id, number=query.number))


@router.get("/instance/connectionState/{instance}")
async def show_state(instance: str, caller: Reader, parts: Parts) -> Response:
    found = await instance_of(parts, caller, instance)
    return answer(_state_shown(found, found["status"]))


@router.get("/instance/fetchInstances")
async def fetch_instances(query: Annotated[FetchInstances, Query()], caller: Reader, parts: Parts) -> Response:
    """All that the key may see: theirs knows no pages."""
    wanted = query.instanceName or query.instanceId
    if wanted is None:
        return _listed(await _all(parts, caller))
    found = await named.find(parts, caller, wanted)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", f'Instance "{wanted}" not found')
    return _listed([found])


@router.post("/instance/restart/{instance}")
async def restart_instance(instance: str, caller: Writer, parts: Parts) -> Response:
    found = await _linked(parts, caller, instance)
    changed = await lifecycle.start(parts, caller, UUID(found["id"]), anew=True)
    return answer(_state_shown(changed.connection, SessionStatus.CONNECTING))


@router.delete("/instance/logout/{instance}")
async def log_out_instance(instance: str, caller: Writer, parts: Parts) -> Response:
    found = await _linked(parts, caller, instance)
    await lifecycle.close(parts, caller, UUID(found["id"]), reason="logout")
    return answer(_done("Instance logged out"))


@router.delete("/instance/delete/{instance}")
async def delete_instance(instance: str, caller: Writer, parts: Parts) -> Response:
    """The key that `create` made for it ends with it."""
    found = await instance_of(parts, caller, instance)
    connection_id = ConnectionId(UUID(found["id"]))
    async with parts.queues.transaction() as tx:
        await lifecycle.delete_within(tx, caller, connection_id)
        await api_keys.revoke_of_connection(
            tx.connection, connection_id, name=_key_name(named.name_of(found)), tenant_id=caller.tenant_id
        )
    return answer(_done("Instance deleted"))


async def _linked(parts: Resources, caller: Principal, instance: str) -> dict[str, Any]:
    """An instance that is not closed, as theirs can only do this to one that is not."""
    found = await instance_of(parts, caller, instance)
    if state_of(found["status"]) == "close":
        raise Refused(HTTPStatus.BAD_REQUEST, "INVALID_STATE", f'The "{instance}" instance is not connected')
    return found


async def _key_of_one(tx: Transaction, caller: Principal, name: str, connection_id: ConnectionId) -> str | None:
    """A key for this instance alone, shown this once; None when the caller may not make keys."""
    scopes = [scope for scope in _SCOPES_OF_ONE if caller.may(scope)]
    if not caller.may(Scope.KEYS_WRITE):
        return None
    _, key = await api_keys.create(
        tx.connection,
        tenant_id=caller.tenant_id,
        name=_key_name(name),
        scopes=scopes,
        connection_ids=[connection_id],
    )
    return key


def _key_name(instance: str) -> str:
    return f"evolution {instance}"


async def _qrcode(parts: Resources, caller: Principal, connection_id: UUID, *, number: str | None) -> dict[str, Any]:
    view = await pairing.pairing_view(parts, caller, connection_id, wait_s=_QR_WAIT_S)
    code = None
    if number is not None and view.qr_code is not None:
        try:
            code = pairing_code((await pairing.pair_code(parts, caller, connection_id, phone=number)).code)
        except (Conflict, HostUnreachable, Problem):
            # The QR code is there all the same; asking again asks for the code again.
            code = None
    return qrcode_shown(view, pairing_code=code)


async def _all(parts: Resources, caller: Principal) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    async with parts.queues.pool.acquire() as connection:
        while True:
            page = await connections.list_objects(
                connection,
                tenant_id=caller.tenant_id,
                allowed=caller.connection_ids,
                status=None,
                external_id=None,
                after=after,
                limit=_PAGE,
            )
            found += [row["object"] for row in page]
            if len(page) < _PAGE:
                return found
            after = page[-1]["created_at"], page[-1]["id"]


def _listed(found: Iterable[dict[str, Any]]) -> Response:
    shown = json.dumps([instance_shown(one) for one in found], ensure_ascii=False)
    return Response(shown, media_type="application/json")


def _state_shown(shown: dict[str, Any], status: str) -> dict[str, Any]:
    return {"instance": {"instanceName": named.name_of(shown), "state": state_of(status)}}


def _webhook_shown(body: CreateInstance) -> dict[str, Any]:
    if body.webhook is None:
        return {}
    return {"webhookUrl": body.webhook.url, "webhookByEvents": False, "webhookBase64": False}


def _done(what: str) -> dict[str, Any]:
    return {"status": "SUCCESS", "error": False, "response": {"message": what}}
