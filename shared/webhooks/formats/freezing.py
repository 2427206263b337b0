"""Freeze the bodies of endpoints that want another form than ZapHub's own, when their deliveries are made."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from shared.db import wire_names
from shared.db.pool import Connection
from shared.db.webhook_deliveries import Occurrence
from shared.domain.ids import ConnectionId, EndpointId, EventId
from shared.domain.webhook import Endpoint, PayloadFormat
from shared.webhooks.formats import cloud_api, evolution
from shared.webhooks.formats.occasion import Known, Occasion, references

Pair = tuple[EndpointId, Occurrence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The pairs of which deliveries are to be made, and the bodies of those that are not in ZapHub's own form."""

    pairs: list[Pair]
    bodies: dict[tuple[EndpointId, EventId], bytes]


async def freeze(
    connection: Connection, connection_id: ConnectionId | None, wanted: Sequence[tuple[Endpoint, Occurrence]]
) -> Frozen:
    """Leave out what an endpoint's format has no words for: no delivery is made of it, and no number is given."""
    events = {event.id: event for endpoint, event in wanted if endpoint.payload_format is not PayloadFormat.ZAPHUB}
    payloads = {event_id: _payload(event.payload_json) for event_id, event in events.items()}
    known = await _known(connection, connection_id, payloads.values()) if connection_id is not None else {}
    pairs: list[Pair] = []
    bodies: dict[tuple[EndpointId, EventId], bytes] = {}
    for endpoint, event in wanted:
        if endpoint.payload_format is PayloadFormat.ZAPHUB:
            pairs.append((endpoint.id, event))
        elif connection_id is not None:
            occasion = Occasion(
                type=event.type,
                payload=payloads[event.id],
                at=event.at,
                connection_id=connection_id,
                name=event.external_id or str(connection_id),
                url=endpoint.url,
                known=known,
            )
            body = body_of(endpoint.payload_format, occasion, subscribed=endpoint.events)
            if body is not None:
                pairs.append((endpoint.id, event))
                bodies[endpoint.id, event.id] = body
    return Frozen(pairs=pairs, bodies=bodies)


def body_of(form: PayloadFormat, occasion: Occasion, *, subscribed: Sequence[str]) -> bytes | None:
    """The event in the words of `form`; None when it has none. ZapHub's own is frozen where it is numbered."""
    match form:
        case PayloadFormat.EVOLUTION:
            return evolution.body_of(occasion, subscribed=subscribed)
        case PayloadFormat.CLOUD_API:
            return cloud_api.body_of(occasion)
        case PayloadFormat.ZAPHUB:
            return None
        case _:
            assert_never(form)


async def _known(
    connection: Connection, connection_id: ConnectionId, payloads: Collection[Mapping[str, Any]]
) -> dict[str, Known]:
    wire_ids: set[str] = set().union(*map(references, payloads))
    rows = await wire_names.of_wire_ids(connection, connection_id, wire_ids)
    return {
        row["wa_message_id"]: Known(id=str(row["id"]), message_id=row["message_id"], from_me=row["from_me"])
        for row in rows
    }


def _payload(payload_json: str) -> Mapping[str, Any]:
    payload = json.loads(payload_json)
    return payload if isinstance(payload, dict) else {}
