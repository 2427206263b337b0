"""Whatever comes in headers and cursors: a value or a refusal, never another exception."""

import asyncio
import base64
import re
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from api.auth import ADMIN
from api.catalogue import translated
from api.client_address import UNKNOWN, address_of
from api.idempotency_key import keyed_request
from api.language import Language, best_of
from api.pages import cursor_of, number_cursor_of, number_of, place_of
from api.routes.sends import _preferred_wait_s as preferred_wait_s
from shared.domain.errors import InvalidInput


@given(st.text(max_size=250) | st.binary(max_size=150).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_is_a_cursor_of_ours_or_refused(cursor: str) -> None:
    for read in (place_of, number_of):
        with suppress(InvalidInput):
            read(cursor)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2999, 1, 1), timezones=st.just(UTC)), st.uuids())  # noqa: DTZ001 - the strategy gives the zone
def test_a_cursor_is_taken_back_as_it_was_given(at: datetime, id_: UUID) -> None:
    assert place_of(cursor_of(at, id_)) == (at, id_)
    assert len(cursor_of(at, id_)) <= 200


@given(st.integers(min_value=0, max_value=2**59))
def test_a_number_is_taken_back_as_it_was_given(number: int) -> None:
    assert number_of(number_cursor_of(number)) == number


_header = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\x00"), max_size=300)


@given(
    st.lists(
        _header | st.from_regex(r"(respond-async, ?)?wait ?= ?\"?[0-9]{1,12}\"?(;[ -~]*)?", fullmatch=True), max_size=3
    )
)
def test_any_prefer_header_waits_for_at_most_25_seconds_or_not_at_all(values: list[str]) -> None:
    headers = [(b"prefer", value.encode("latin-1")) for value in values]

    wait_s = preferred_wait_s(Request({"type": "http", "headers": headers}))

    assert wait_s is None or 0 <= wait_s <= 25


@given(_header)
def test_any_idempotency_key_is_a_key_or_refused(key: str) -> None:
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"idempotency-key", key.encode("latin-1"))]}

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    request = Request(scope, nothing)
    if re.fullmatch(r"[!-~]{1,255}", key):
        keyed = asyncio.run(keyed_request(request, ADMIN))
        assert keyed is not None
        assert keyed.key == key
    else:
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(keyed_request(request, ADMIN))
        assert caught.value.pointer == "Idempotency-Key"


@given(_header)
def test_any_accept_language_is_a_language(header: str) -> None:
    assert best_of(header) in set(Language)


@given(st.text(max_size=300))
def test_any_text_may_be_translated(text: str) -> None:
    assert isinstance(translated(text, Language.PORTUGUESE), str)


@given(st.lists(_header, max_size=4), st.text(max_size=40))
def test_any_forwarded_header_gives_an_address_or_none(values: list[str], peer: str) -> None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in values]

    address = address_of({"client": (peer, 1), "headers": headers}, [ip_network("0.0.0.0/0"), ip_network("::/0")])

    assert address == UNKNOWN or ip_address(address)
