"""Whatever comes in, parsing answers with a value or with a refusal, never with another exception."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.inputs import Send
from api.json_body import parse
from api.problems import Problem
from shared.domain.errors import InvalidInput
from shared.domain.jid import Server, parse_jid, parse_phone

SEND: TypeAdapter[Any] = TypeAdapter(Send)
phones = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["text", "5511987654321"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("to", "type", "payload", "message_id", "priority", "send_at", "ttl_seconds", "order", "reply_to", "mentions"),
    *("if_offline", "on_unknown", "metadata", "text"),
)


@given(phones)
def test_a_phone_is_its_own_canonical_spelling(phone: str) -> None:
    jid = parse_jid(phone)

    assert (jid.user, jid.server, jid.phone) == (phone, Server.PERSON, phone)
    assert parse_jid(str(jid)) == jid
    assert parse_phone(str(jid)) == phone


@given(phones, st.data())
def test_punctuation_changes_nothing(phone: str, data: st.DataObject) -> None:
    marks = data.draw(
        st.lists(st.sampled_from(["", " ", "-", ".", "(", ")"]), min_size=len(phone), max_size=len(phone))
    )
    written = "+" + "".join(digit + mark for digit, mark in zip(phone, marks, strict=True))

    assert parse_phone(written) == phone


@given(st.text() | st.from_regex(r"[0-9.:\-]{0,30}@(s\.whatsapp\.net|lid|g\.us|c\.us|x)"))
def test_any_text_is_a_chat_or_refused(text: str) -> None:
    try:
        jid = parse_jid(text)
    except InvalidInput:
        return
    assert parse_jid(str(jid)) == jid
    assert parse_jid(jid.chat_key).chat_key == jid.chat_key
    assert str(jid).isascii()


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_json_or_a_problem(body: bytes) -> None:
    try:
        value = parse(body)
    except Problem:
        return
    # What was taken can be kept: it goes to Postgres as UTF-8, without NUL, and comes back.
    assert b"\\u0000" not in json.dumps(value, allow_nan=False).encode()
    json.dumps(value, ensure_ascii=False).encode()


@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_any_object_is_a_message_or_refused(body: dict[str, Any]) -> None:
    with suppress(ValidationError):
        SEND.validate_python(body)


@given(
    st.sampled_from(["text", "image", "location", "contact", "reaction", "poll", "edit", "revoke"]),
    st.dictionaries(st.sampled_from(["text", "url", "options", "max", "latitude", "phone", "message_id"]), values),
)
def test_any_payload_is_a_message_or_refused(type_: str, payload: dict[str, Any]) -> None:
    with suppress(ValidationError):
        SEND.validate_python({"to": "5511987654321", "type": type_, "payload": payload})
