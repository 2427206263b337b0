"""What the library's error texts mean for a message."""

import pytest

from session_host.whatsapp.refusals import classify
from shared.hosts.protocol import Ambiguous, NotConnected, Refused


@pytest.mark.parametrize(
    "text",
    [
        "websocket disconnected before message send returned response",
        "timed out waiting for message send response",
        "something that nobody has seen before",
        "",
    ],
)
def test_what_may_have_left_is_in_doubt_and_so_is_what_nobody_knows(text: str) -> None:
    assert isinstance(classify(text), Ambiguous)


@pytest.mark.parametrize(
    "text",
    [
        "the store doesn't contain a device JID",
        "client is nil",
        "failed to get device list: websocket not connected",
        "failed to dial whatsapp web websocket: no such host",
    ],
)
def test_without_a_connection_nothing_was_tried(text: str) -> None:
    assert classify(text) == NotConnected()


@pytest.mark.parametrize(
    ("text", "code", "permanent"),
    [
        ("server returned error 463", "CHAT_RESTRICTED", False),
        ("server returned error 429", "RATE_OVERLIMIT", False),
        ("failed to get group members: info query returned status 429: rate-overlimit", "RATE_OVERLIMIT", False),
        ("failed to get device list: info query timed out", "UNAVAILABLE", False),
        ("websocket disconnected before info query returned response", "UNAVAILABLE", False),
        ("server returned error 503", "UNAVAILABLE", False),
        ("server returned error 479", "WHATSAPP_REFUSED", False),
        ("server returned error 400", "WHATSAPP_REFUSED", True),
        ("no LID found for 5511@s.whatsapp.net from server", "NUMBER_NOT_ON_WHATSAPP", True),
        ("can't send message to unknown server nope", "NUMBER_NOT_ON_WHATSAPP", True),
        ("failed to get group members: you're not participating in that group", "RECIPIENT_REFUSED", True),
    ],
)
def test_a_refusal_says_which_and_whether_another_try_helps(text: str, code: str, permanent: bool) -> None:
    verdict = classify(text)

    assert isinstance(verdict, Refused)
    assert (verdict.code, verdict.permanent) == (code, permanent)
    assert "5511" not in verdict.detail
