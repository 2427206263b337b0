"""`webhook/*`: the one webhook of an instance, an endpoint in Evolution's words that is limited to its connection."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AliasChoices, Field, StrictBool, field_validator, model_validator

from api import webhooks
from api.answers import answer, time_shown
from api.auth import Principal, allowed
from api.compat.evolution.inputs import Lenient, instance_of
from api.compat.evolution.route import PREFIX, EvolutionRoute
from api.inputs import Url
from api.resources import Resources
from api.routes.connections import Parts
from api.webhook_inputs import CreateWebhook
from shared.db import connections
from shared.db import webhooks as stored
from shared.db.api_keys import Scope
from shared.db.pool import Connection
from shared.domain.ids import ConnectionId
from shared.domain.jobs import QueueName
from shared.domain.webhook import Endpoint, PayloadFormat
from shared.egress.target import Target
from shared.queues.runtime import Transaction, retry_collisions
from shared.sealing import Sealer
from shared.webhooks import endpoints
from shared.webhooks.formats.evolution import CATEGORY, SOURCES

router = APIRouter(prefix=PREFIX, route_class=EvolutionRoute, include_in_schema=False)

Reader = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_READ))]
Writer = Annotated[Principal, Depends(allowed(Scope.WEBHOOKS_WRITE))]

# Theirs that have no event of ours: they may be asked for, and never come.
_SILENT: Final = (
    *("APPLICATION_STARTUP", "MESSAGES_SET", "SEND_MESSAGE_UPDATE", "CONTACTS_SET", "CONTACTS_UPSERT"),
    *("CONTACTS_UPDATE", "PRESENCE_UPDATE", "CHATS_SET", "CHATS_UPSERT", "CHATS_UPDATE", "CHATS_DELETE"),
    *("GROUPS_UPSERT", "GROUP_UPDATE", "GROUPS_UPDATE", "GROUP_PARTICIPANTS_UPDATE", "LABELS_EDIT"),
    *("LABELS_ASSOCIATION", "CALL", "TYPEBOT_START", "TYPEBOT_CHANGE_STATUS", "REMOVE_INSTANCE"),
    *("LOGOUT_INSTANCE", "INSTANCE_CREATE", "INSTANCE_DELETE", "STATUS_INSTANCE", "ERRORS"),
)
_NAMES: Final = frozenset(SOURCES) | frozenset(_SILENT)
_MOST_OF_ONE: Final = 200


class WebhookSettings(Lenient):
    """`enabled` false stops it. `headers` left out leaves those that there are."""

    enabled: StrictBool = True
    url: Url | Literal[""] = ""
    headers: dict[str, str] | None = None
    events: list[str] = Field(default_factory=list, max_length=100)
    by_events: StrictBool = Field(
        default=False, validation_alias=AliasChoices("byEvents", "webhookByEvents", "webhook_by_events")
    )
    base64: StrictBool = Field(
        default=False, validation_alias=AliasChoices("base64", "webhookBase64", "webhook_base64")
    )

    @field_validator("events")
    @classmethod
    def _are_theirs(cls, events: list[str]) -> list[str]:
        for one in events:
            if one not in _NAMES:
                raise ValueError('"events" has a name that Evolution API does not have')
        return events

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.enabled and not self.url:
            raise ValueError('The "url" cannot be empty')
        if self.by_events:
            raise ValueError('"byEvents" is not there: every event goes to one url, and "event" tells which it is')
        if self.base64:
            raise ValueError('"base64" is not there: fetch the file with GET /media/{mediaId}')
        if self.headers is not None and any(name.lower() == "jwt_key" for name in self.headers):
            raise ValueError('"jwt_key" is not there: verify the header webhook-signature, see docs/webhooks.md')
        return self

    def subscription(self) -> list[str]:
        """Our events that theirs come from, and their own names when not all are wanted."""
        names = sorted(set(self.events)) or sorted(SOURCES)
        sources = sorted({source for name in names for source in SOURCES.get(name, ())})
        return [*sources, *(f"{CATEGORY}.{name.lower()}" for name in sorted(set(self.events)))]


class SetWebhook(Lenient):
    webhook: WebhookSettings

    @model_validator(mode="before")
    @classmethod
    def _may_be_flat(cls, value: Any) -> Any:  # noqa: ANN401 - a validator sees whatever was given
        """Their documentation has it without `webhook` around it, their code with it."""
        return {"webhook": value} if isinstance(value, dict) and "webhook" not in value else value


@router.post("/webhook/set/{instance}")
async def set_webhook(instance: str, body: SetWebhook, caller: Writer, parts: Parts) -> Response:
    connection = await instance_of(parts, caller, instance)
    target = await judged(parts, body.webhook)

    async def once() -> Endpoint | None:
        async with parts.queues.transaction() as tx:
            return await put(tx, parts, caller, UUID(connection["id"]), body.webhook, target)

    endpoint = await retry_collisions(once)
    return answer(_shown(endpoint, connection["id"], body.webhook), status=HTTPStatus.CREATED)


@router.get("/webhook/find/{instance}")
async def find_webhook(instance: str, caller: Reader, parts: Parts) -> Response:
    found = await instance_of(parts, caller, instance)
    async with parts.queues.pool.acquire() as connection:
        endpoint = await _of_instance(connection, caller, ConnectionId(UUID(found["id"])))
    if endpoint is None:
        return Response(json.dumps(None), media_type="application/json")
    return answer(_shown(endpoint, found["id"]))


async def judged(parts: Resources, wanted: WebhookSettings) -> Target | None:
    """The URL when it may be called; None when nothing is to be called. Asks a name server: before a transaction."""
    return await webhooks.judged(parts, wanted.url) if wanted.enabled else None


async def put(
    tx: Transaction,
    parts: Resources,
    caller: Principal,
    connection_id: UUID,
    wanted: WebhookSettings,
    target: Target | None,
) -> Endpoint | None:
    """Make the instance's webhook be like this; None when there is none and none is wanted. Again, it is the same one.

    Raises as `POST /webhooks`.
    """
    # Two calls at once make one endpoint: the second waits here and finds it.
    await connections.lock(tx.connection, connection_id, tenant_id=caller.tenant_id, allowed=caller.connection_ids)
    endpoint = await _of_instance(tx.connection, caller, ConnectionId(connection_id), lock=True)
    tx.ring(QueueName.WEBHOOK_DELIVERY)
    if target is None:
        if endpoint is None:
            return None
        return await stored.set_enabled(tx.connection, endpoint.id, enabled=False, reason="disabled on request")
    if endpoint is None:
        new = CreateWebhook(
            url=target.url,
            events=wanted.subscription(),
            connection_ids=[connection_id],
            headers=wanted.headers or {},
            payload_format=PayloadFormat.EVOLUTION,
        )
        return (await webhooks.register(tx, parts, caller, new, target)).endpoint
    await webhooks.refuse_to_turn_aside(tx.connection, caller, endpoint, target)
    changed = await endpoints.change(
        tx.connection,
        replace(endpoint, payload_format=PayloadFormat.EVOLUTION),
        sealer=Sealer(parts.settings.secret_key),
        target=target,
        events=wanted.subscription(),
        headers=wanted.headers,
    )
    return changed if changed.enabled else await stored.set_enabled(tx.connection, changed.id, enabled=True)


async def _of_instance(
    connection: Connection, caller: Principal, connection_id: ConnectionId, *, lock: bool = False
) -> Endpoint | None:
    """The instance's webhook: the newest endpoint in their words that is limited to this connection."""
    of_it = await stored.page(connection, tenant_id=caller.tenant_id, allowed=[connection_id], limit=_MOST_OF_ONE)
    for one in of_it:
        if one.payload_format is PayloadFormat.EVOLUTION and one.owner_id is None:
            return await webhooks.found(connection, caller, one.id, lock=True) if lock else one
    return None


def _shown(endpoint: Endpoint | None, instance_id: str, wanted: WebhookSettings | None = None) -> dict[str, Any]:
    """As they show it. Headers are kept sealed and never shown, as they are often tokens."""
    if endpoint is None:
        about: Mapping[str, Any] = {"id": None, "url": wanted.url if wanted else "", "enabled": False, "events": []}
    else:
        about = {
            "id": endpoint.id,
            "url": endpoint.url,
            "enabled": endpoint.enabled,
            "events": _names_of(endpoint.events),
            "createdAt": time_shown(endpoint.created_at),
            "updatedAt": time_shown(endpoint.updated_at),
        }
    return {**about, "headers": None, "webhookByEvents": False, "webhookBase64": False, "instanceId": instance_id}


def _names_of(patterns: Sequence[str]) -> list[str]:
    """Their names that were asked for; of an endpoint that lists none, those that may come."""
    listed = [one.removeprefix(f"{CATEGORY}.").upper() for one in patterns if one.startswith(f"{CATEGORY}.")]
    if listed:
        return listed
    return [name for name, sources in SOURCES.items() if any(_covers(patterns, source) for source in sources)]


def _covers(patterns: Sequence[str], type_: str) -> bool:
    return not {"*", f"{type_.partition('.')[0]}.*", type_}.isdisjoint(patterns)
