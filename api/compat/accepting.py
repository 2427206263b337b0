"""From another gateway's words to an accepted message of ours: the same validation, its errors naming their fields."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from api import sending
from api.auth import Principal
from api.idempotency_key import keyed_request
from api.inputs import AnySend, Send
from api.problems import invalid, wrong_value
from api.resources import Resources
from shared.db import known_numbers
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId
from shared.domain.jid import parse_jid

_PARSE: Final[TypeAdapter[Any]] = TypeAdapter(Send)


async def accept(
    request: Request,
    parts: Resources,
    caller: Principal,
    connection_id: UUID,
    fields: Mapping[str, Any],
    *,
    places: Mapping[str, str],
) -> dict[str, Any]:
    """Accept the message that `fields` say, as `POST …/send` accepts it, `Idempotency-Key` included; returns it.

    `places` says which field of the caller's each of ours came from, by JSON pointer. Raises Problem 422, and as
    `sending.send` does.
    """
    wanted = as_send(fields, places=places)
    keyed = await keyed_request(request, caller)
    with told_at(places):
        sent = await sending.send(parts, caller, connection_id, wanted, keyed)
    return await _named(parts, ConnectionId(connection_id), sent.message)


async def _named(parts: Resources, connection_id: ConnectionId, message: dict[str, Any]) -> dict[str, Any]:
    """The message with its recipient as WhatsApp spells it, where that is known: those who moved here match on it."""
    phone = message["phone"]
    if phone is None:
        return message
    async with parts.queues.pool.acquire() as connection:
        person = (await known_numbers.recall(connection, connection_id, [phone])).get(phone)
    known = None if person is None else parse_jid(person.jid).phone
    if person is None or known is None:
        return message
    return {**message, "jid": person.jid, "to": person.jid, "phone": known, "lid": person.lid}


@contextmanager
def told_at(places: Mapping[str, str]) -> Iterator[None]:
    """What is found wrong only now, such as a file, is told at the caller's own field too."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer=_place(error.pointer, places), code=error.public_code) from error


def as_send(fields: Mapping[str, Any], *, places: Mapping[str, str]) -> AnySend:
    """The message as the own route would parse it. Raises Problem 422 that names the caller's fields."""
    try:
        parsed: AnySend = _PARSE.validate_python(fields)
    except ValidationError as error:
        wrong = [wrong_value({**one, "loc": ("body", *one["loc"])}) for one in error.errors(include_url=False)]
        raise invalid([InvalidInput(one.detail, pointer=_place(one.pointer, places)) for one in wrong]) from None
    return parsed


def _place(pointer: str, places: Mapping[str, str]) -> str:
    """The caller's place of one of ours, by the longest part that is known; theirs and ours may be nested alike."""
    for ours in sorted(places, key=len, reverse=True):
        if pointer == ours or pointer.startswith(f"{ours}/"):
            return places[ours] + pointer.removeprefix(ours)
    return pointer
