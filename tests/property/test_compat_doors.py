"""Whatever JSON comes through a door, it becomes a message of ours or a refusal that names a field: never a crash."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from api.compat.accepting import as_send
from api.compat.cloud.inputs import SendMessage
from api.compat.cloud.router import _fields, _parsed
from api.compat.evolution.instance_inputs import CreateInstance
from api.compat.evolution.message_inputs import (
    DeleteMessage,
    SendAudio,
    SendContact,
    SendLocation,
    SendMedia,
    SendPoll,
    SendReaction,
    SendSticker,
    SendText,
    UpdateMessage,
    recipient,
)
from api.compat.evolution.webhook import SetWebhook
from api.problems import Problem
from shared.domain.errors import InvalidInput

NUMBER = "5511999998888"
KEY = {"id": "3EB0AAAA", "remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": True}
TEXT: dict[str, Any] = {"messaging_product": "whatsapp", "to": NUMBER, "type": "text", "text": {"body": "hi"}}
EVOLUTION: dict[type[BaseModel], dict[str, Any]] = {
    SendText: {"number": NUMBER, "text": "oi", "quoted": {"key": KEY}, "mentioned": [NUMBER]},
    SendMedia: {"number": NUMBER, "mediatype": "image", "media": "https://example.com/a.png"},
    SendAudio: {"number": NUMBER, "audio": "T2dnUw=="},
    SendSticker: {"number": NUMBER, "sticker": "https://example.com/a.webp"},
    SendLocation: {"number": NUMBER, "latitude": 1.5, "longitude": 2, "name": "Loja"},
    SendContact: {"number": NUMBER, "contact": [{"fullName": "Ana", "phoneNumber": NUMBER}]},
    SendPoll: {"number": NUMBER, "name": "?", "selectableCount": 1, "values": ["a", "b"]},
    SendReaction: {"key": KEY, "reaction": "🚀"},
    UpdateMessage: {"number": NUMBER, "text": "oi", "key": KEY},
    DeleteMessage: KEY,
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def refused(accept: Callable[[], None]) -> list[str]:
    """The fields that a refusal names; none of a body that became a message, or that is none of theirs at all."""
    try:
        accept()
    except ValidationError:
        return []
    except InvalidInput as refusal:
        return [refusal.pointer]
    except Problem as refusal:
        return [one["pointer"] for one in refusal.errors or ()]
    return []


def spoiled(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """`whole` with some of its members replaced by anything, and perhaps one more."""
    members = st.dictionaries(st.sampled_from([*whole, "surprise"]), _JSON, max_size=3)
    return members.map(lambda other: {**whole, **other})


@pytest.mark.parametrize("shape", list(EVOLUTION))
def test_a_documented_body_of_evolution_becomes_a_message(shape: Any) -> None:
    said = shape.model_validate(EVOLUTION[shape]).translated()

    assert as_send(said.fields, places=said.places).to


@given(st.sampled_from(list(EVOLUTION)).flatmap(lambda shape: st.tuples(st.just(shape), spoiled(EVOLUTION[shape]))))
def test_any_body_of_evolution_becomes_a_message_or_a_refusal_in_their_words(pair: tuple[Any, dict[str, Any]]) -> None:
    shape, body = pair

    def accept() -> None:
        said = shape.model_validate(body).translated()
        as_send(said.fields, places=said.places)

    assert not [place for place in refused(accept) if place.startswith("/payload")]


@given(spoiled({"instanceName": "loja1", "qrcode": True, "number": NUMBER, "webhook": {"url": "https://example.com/"}}))
def test_any_instance_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        CreateInstance.model_validate(body)
    except ValidationError:
        return


@given(_JSON | spoiled({"enabled": True, "url": "https://example.com/", "events": ["MESSAGES_UPSERT"]}))
def test_any_webhook_is_parsed_or_refused(body: Any) -> None:
    try:
        wanted = SetWebhook.model_validate(body).webhook
    except ValidationError:
        return
    assert wanted.subscription()


_KINDS: list[dict[str, Any]] = [
    TEXT,
    {**TEXT, "type": "image", "image": {"link": "https://example.com/a.png", "caption": "c"}},
    {**TEXT, "type": "location", "location": {"latitude": "1.5", "longitude": 2}},
    {**TEXT, "type": "contacts", "contacts": [{"name": {"formatted_name": "A"}, "phones": [{"phone": NUMBER}]}]},
    {**TEXT, "type": "reaction", "reaction": {"message_id": "wamid.M0VCMEFBQUE=", "emoji": "😀"}},
]


@given(st.sampled_from(_KINDS).flatmap(spoiled))
def test_any_body_of_the_cloud_api_becomes_a_message_or_a_refusal_in_their_words(body: dict[str, Any]) -> None:
    def accept() -> None:
        said = _parsed(SendMessage, body)
        as_send(_fields(said), places=said.content().places)

    assert not [place for place in refused(accept) if place.startswith("/payload")]


@given(st.text(max_size=40))
def test_a_number_of_theirs_is_ours_but_for_a_groups_server(number: str) -> None:
    assert recipient(number) in {number, f"{number}@g.us"}
