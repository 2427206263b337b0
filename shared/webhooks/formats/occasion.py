"""What a format is given of an event, and how it reads a payload: nothing in it is taken for granted.

A payload is what the event log holds, written by this or an older version. A format that raised would hold up every
webhook behind it, so what is missing or of another type reads as if it were not there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId
from shared.domain.jid import parse_jid


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A message of ours that goes by a wire id."""

    id: str
    message_id: str
    from_me: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """An event of a connection, for the endpoint at `url`.

    `name` is what other gateways' users call the connection: its external id, or its id when it has none. `known` are
    the messages that the event refers to by wire id.
    """

    type: str
    payload: Mapping[str, Any]
    at: datetime
    connection_id: ConnectionId
    name: str
    url: str
    known: Mapping[str, Known] = field(default_factory=dict)


def part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under `name`, an empty one when there is none."""
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}


def text(of: Mapping[str, Any], name: str) -> str | None:
    """The text under `name`; None when there is none, or an empty one."""
    found = of.get(name)
    return found if isinstance(found, str) and found else None


def strings(of: Mapping[str, Any], name: str) -> list[str]:
    found = of.get(name)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def happened_at(message: Mapping[str, Any], otherwise: datetime, *names: str) -> int:
    """Unix seconds of the first of these times that the message has."""
    for name in names:
        try:
            return int(datetime.fromisoformat(message[name]).timestamp())
        except (KeyError, TypeError, ValueError):
            continue
    return int(otherwise.timestamp())


def own_jid(message: Mapping[str, Any]) -> str | None:
    """The connection's own JID, as a message of it names it."""
    return text(message, "from" if message.get("from_me") is True else "to")


def number_of(jid: str | None) -> str | None:
    """The digits of a person; an alias stays a JID, as it can be answered to and its number is not known."""
    if jid is None:
        return None
    try:
        return parse_jid(jid).phone or jid
    except InvalidInput:
        return jid


def references(message: Mapping[str, Any]) -> set[str]:
    """The wire ids by which a message that came over the wire names others."""
    said = part(message, "payload")
    return {one for name in ("reply_to", "message_id") if (one := text(said, name)) is not None}


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dump(body: Mapping[str, Any]) -> bytes:
    """The bytes that every attempt sends."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
