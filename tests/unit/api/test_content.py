"""Payloads by type: bounds, unknown fields, and the characters that nothing can store."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from shared.domain import content


@pytest.mark.parametrize(
    ("model", "payload"),
    [
        (content.TextPayload, {"text": "x" * 65_536}),
        (content.TextPayload, {"text": "👍", "preview": False}),
        (
            content.TextPayload,
            {"text": "see https://a.example/b", "preview": {"url": "https://a.example/b", "title": "B"}},
        ),
        (content.MediaPayload, {"url": "https://example.com/a.jpg", "caption": "hi", "mimetype": "image/jpeg"}),
        (content.MediaPayload, {"base64": "QUJD"}),
        (content.MediaPayload, {"media_id": "m", "mimetype": "audio/ogg; codecs=opus", "ptt": True}),
        (content.LocationPayload, {"latitude": -23.5, "longitude": -46, "name": "São Paulo"}),
        (content.ContactPayload, {"name": "Ana", "phone": "+55 11 98765-4321"}),
        (content.ReactionPayload, {"message_id": "m", "emoji": ""}),
        (content.PollPayload, {"question": "?", "options": ["a", "b"], "max": 2}),
        (content.EditPayload, {"message_id": "m", "text": "new"}),
        (content.RevokePayload, {"message_id": "m"}),
    ],
)
def test_a_right_payload_is_taken(model: type[BaseModel], payload: dict[str, Any]) -> None:
    assert content.plain(model.model_validate(payload))


@pytest.mark.parametrize(
    ("model", "payload"),
    [
        (content.TextPayload, {"text": ""}),
        (content.TextPayload, {"text": "x" * 65_537}),
        (content.TextPayload, {"text": "a\x00b"}),
        (content.TextPayload, {"text": "\ud800"}),
        (content.TextPayload, {"text": 1}),
        (content.TextPayload, {"text": "a", "preview": "yes"}),
        (content.TextPayload, {"text": "a", "bold": True}),
        (content.TextPayload, {"text": "https://a.example", "preview": True}),
        (content.TextPayload, {"text": "no link", "preview": {"url": "https://a.example", "title": "A"}}),
        (content.MediaPayload, {}),
        (content.MediaPayload, {"url": "https://example.com", "media_id": "m"}),
        (content.MediaPayload, {"url": "file:///etc/passwd"}),
        (content.MediaPayload, {"base64": "%%%%"}),
        (content.MediaPayload, {"media_id": "m", "filename": "../../etc/passwd"}),
        (content.LocationPayload, {"latitude": 91, "longitude": 0}),
        (content.LocationPayload, {"latitude": float("nan"), "longitude": 0}),
        (content.ContactPayload, {"name": "Ana", "phone": "123"}),
        (content.ReactionPayload, {"message_id": "", "emoji": "👍"}),
        (content.PollPayload, {"question": "?", "options": ["a"]}),
        (content.PollPayload, {"question": "?", "options": ["a", "a"]}),
        (content.PollPayload, {"question": "?", "options": ["a", "b"], "max": 3}),
        (content.PollPayload, {"question": "?", "options": ["a", "b"], "max": True}),
    ],
)
def test_a_wrong_payload_is_refused(model: type[BaseModel], payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(payload)


def test_a_contact_keeps_the_digits_of_its_phone() -> None:
    assert content.ContactPayload(name="Ana", phone="+55 (11) 98765-4321").phone == "5511987654321"
