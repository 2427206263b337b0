"""Register and change endpoints: URLs judged, subscriptions and headers checked, secrets and header values sealed.

Judge a URL with `Rule.check` before the transaction: it asks a name server, and no row should wait for one.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from shared.db import webhooks
from shared.db.pool import Connection
from shared.domain.errors import Conflict, InvalidInput, Misconfigured, NotFound
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, EndpointId, TenantId
from shared.domain.webhook import CONNECTION_EVENTS, Endpoint, PayloadFormat, is_pattern
from shared.domain.webhook_secret import Keyring, check_secret, new_secret
from shared.egress.target import Target
from shared.sealing import Sealer
from shared.webhooks.headers import check_headers

ROTATION_GRACE: Final = timedelta(hours=24)
_MAX_PATTERNS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """An endpoint that somebody asks for. `secret` None: one is made. `connection_ids` None: all of the tenant's."""

    target: Target
    events: Sequence[str]
    connection_ids: Sequence[ConnectionId] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    tenant_id: TenantId = DEFAULT_TENANT
    owner_id: ConnectionId | None = None
    keeps_order: bool = False
    payload_format: PayloadFormat = PayloadFormat.ZAPHUB

    @classmethod
    def of_connection(
        cls,
        connection_id: ConnectionId,
        target: Target,
        *,
        secret: str | None = None,
        tenant_id: TenantId = DEFAULT_TENANT,
    ) -> "Registration":
        """A connection's `webhook_url`: it gets all `session.*` and `message.*` events of this connection."""
        return cls(
            target=target,
            events=CONNECTION_EVENTS,
            connection_ids=[connection_id],
            secret=secret,
            tenant_id=tenant_id,
            owner_id=connection_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An endpoint, and its secret to be shown once; None when the caller brought it or it was there before."""

    endpoint: Endpoint
    new_secret: str | None = field(repr=False)


async def create(
    connection: Connection, wanted: Registration, *, sealer: Sealer, new_id: Callable[[], UUID] = uuid4
) -> Registered:
    """Register an endpoint.

    Raises InvalidInput with a pointer to `/events`, `/headers/…` or the secret, and Conflict when its owning connection
    has a `webhook_url` already.
    """
    endpoint_id = EndpointId(new_id())
    made = new_secret() if wanted.secret is None else None
    pointer = "/secret" if wanted.owner_id is None else "/webhook_secret"
    keyring = Keyring.of(made or check_secret(wanted.secret or "", pointer=pointer))
    inserted = await webhooks.insert(
        connection,
        webhooks.NewEndpoint(
            id=endpoint_id,
            tenant_id=wanted.tenant_id,
            owner_id=wanted.owner_id,
            url=wanted.target.url,
            secrets_sealed=seal_keyring(sealer, endpoint_id, keyring),
            events=check_events(wanted.events),
            connection_ids=wanted.connection_ids,
            headers_sealed=seal_headers(sealer, endpoint_id, check_headers(wanted.headers)),
            keeps_order=wanted.keeps_order,
            payload_format=wanted.payload_format,
        ),
    )
    if not inserted:
        raise Conflict("this connection has a webhook_url already; change it with PATCH.")
    endpoint = await webhooks.get(connection, endpoint_id, tenant_id=wanted.tenant_id)
    assert endpoint is not None, "it was inserted in this transaction"
    return Registered(endpoint=endpoint, new_secret=made)


async def create_for_connection(
    connection: Connection,
    connection_id: ConnectionId,
    target: Target,
    *,
    sealer: Sealer,
    secret: str | None = None,
    tenant_id: TenantId = DEFAULT_TENANT,
) -> Registered:
    """Register a connection's `webhook_url`. Raises as `create`."""
    wanted = Registration.of_connection(connection_id, target, secret=secret, tenant_id=tenant_id)
    return await create(connection, wanted, sealer=sealer)


async def set_for_connection(
    connection: Connection,
    connection_id: ConnectionId,
    target: Target | None,
    *,
    sealer: Sealer,
    secret: str | None = None,
    tenant_id: TenantId = DEFAULT_TENANT,
) -> Registered | None:
    """Make a connection's `webhook_url` this one: created, moved or, with None, removed. The PATCH of a connection.

    A moved endpoint keeps its secret unless one is given, and what waits goes to the new URL.
    """
    endpoint = await webhooks.of_connection(connection, connection_id)
    if target is None:
        if endpoint is not None:
            await webhooks.delete(connection, endpoint.id)
        return None
    if endpoint is None:
        return await create_for_connection(
            connection, connection_id, target, sealer=sealer, secret=secret, tenant_id=tenant_id
        )
    if secret is not None:
        await set_secret(connection, endpoint.id, secret, sealer=sealer, pointer="/webhook_secret")
    moved = await webhooks.update(connection, replace(endpoint, url=target.url), headers_sealed=None)
    return Registered(endpoint=moved, new_secret=None)


async def change(
    connection: Connection,
    endpoint: Endpoint,
    *,
    sealer: Sealer,
    target: Target | None = None,
    events: Sequence[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Endpoint:
    """Change what is given of an endpoint that was read under lock. `headers` replace all that it had.

    To change `connection_ids`, where None is a value of its own, the order or the format, pass an endpoint that has the
    new ones.
    """
    changed = replace(
        endpoint,
        url=endpoint.url if target is None else target.url,
        events=endpoint.events if events is None else tuple(check_events(events)),
    )
    sealed = None if headers is None else seal_headers(sealer, endpoint.id, check_headers(headers))
    return await webhooks.update(connection, changed, headers_sealed=sealed)


async def set_secret(
    connection: Connection, endpoint_id: EndpointId, secret: str, *, sealer: Sealer, pointer: str = "/secret"
) -> None:
    """Sign with this secret alone from now on."""
    keyring = Keyring.of(check_secret(secret, pointer=pointer))
    await webhooks.write_secrets(connection, endpoint_id, seal_keyring(sealer, endpoint_id, keyring))


async def rotate_secret(
    connection: Connection,
    endpoint_id: EndpointId,
    *,
    sealer: Sealer,
    now: datetime,
    secret: str | None = None,
    grace: timedelta = ROTATION_GRACE,
) -> str:
    """Give an endpoint a new first secret and return it, to be shown once. The one before signs too for `grace` more.

    At most three secrets sign. Without a grace the old ones are not even opened: that is the way to go on after
    ZAPHUB_SECRET_KEY was changed. Raises NotFound when there is no such endpoint, and Conflict when the old ones are to
    sign on and do not open.
    """
    sealed = await webhooks.read_secrets(connection, endpoint_id)
    if sealed is None:
        raise NotFound("no such endpoint.")
    fresh = new_secret() if secret is None else check_secret(secret, pointer="/secret")
    keyring = Keyring.of(fresh)
    if grace > timedelta(0):
        try:
            keyring = open_keyring(sealer, endpoint_id, sealed).rotated(fresh, at=now, grace=grace)
        except Misconfigured:
            raise Conflict(
                "The secret before cannot sign on: ZAPHUB_SECRET_KEY is another one than it was sealed with. Rotate "
                "with `grace_seconds` 0."
            ) from None
    await webhooks.write_secrets(connection, endpoint_id, seal_keyring(sealer, endpoint_id, keyring))
    return fresh


def check_events(events: Sequence[str], *, pointer: str = "/events") -> Sequence[str]:
    """Return the subscription. Raises InvalidInput when it is empty or holds what is no event's name."""
    if not 1 <= len(events) <= _MAX_PATTERNS:
        raise InvalidInput(f"name 1 to {_MAX_PATTERNS} events; * is all of them.", pointer=pointer)
    for number, pattern in enumerate(events):
        if not is_pattern(pattern):
            raise InvalidInput("write *, message.* or message.sent.", pointer=f"{pointer}/{number}")
    return list(dict.fromkeys(events))


def seal_keyring(sealer: Sealer, endpoint_id: EndpointId, keyring: Keyring) -> bytes:
    return sealer.seal(keyring.dump(), context=webhooks.secrets_context(endpoint_id))


def open_keyring(sealer: Sealer, endpoint_id: EndpointId, sealed: bytes) -> Keyring:
    """Raises Misconfigured when the secret key is another one than it was."""
    return Keyring.load(sealer.open(sealed, context=webhooks.secrets_context(endpoint_id)))


def seal_headers(sealer: Sealer, endpoint_id: EndpointId, headers: Mapping[str, str]) -> dict[str, str]:
    """Header values, which are often tokens, as sealed text that fits a JSON column; names stay readable."""
    context = _headers_context(endpoint_id)
    return {
        name: base64.b64encode(sealer.seal(value.encode(), context=context)).decode() for name, value in headers.items()
    }


def open_headers(sealer: Sealer, endpoint_id: EndpointId, sealed: Mapping[str, str]) -> dict[str, str]:
    """Raises Misconfigured when the secret key is another one than it was."""
    context = _headers_context(endpoint_id)
    return {name: sealer.open(base64.b64decode(value), context=context).decode() for name, value in sealed.items()}


def _headers_context(endpoint_id: EndpointId) -> str:
    return f"webhook_endpoints.headers {endpoint_id}"
