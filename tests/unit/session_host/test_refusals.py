"""What the library's error texts mean for a message."""

import pytest

from session_host.whatsapp.refusals import classify, classify_send
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


def test_a_send_whose_second_frame_found_no_socket_is_in_doubt_as_the_first_one_had_left() -> None:
    assert isinstance(classify_send("websocket not connected"), Ambiguous)
    assert classify_send("failed to send message node: websocket not connected") == NotConnected()
    assert classify("websocket not connected") == NotConnected()


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
        ("failed to get device list: info query returned status 400: bad-request", "WHATSAPP_REFUSED", False),
        ("failed to get group members: info query returned status 503: service-unavailable", "UNAVAILABLE", False),
        ("failed to refresh media connections: timeout", "MEDIA_UPLOAD_FAILED", False),
        ("failed to refresh media connections: info query returned status 429", "RATE_OVERLIMIT", False),
        ("server returned error 401", "WHATSAPP_REFUSED", True),
        ("server returned error 410", "WHATSAPP_REFUSED", True),
        ("message recipient must be a user JID with no device part", "NUMBER_NOT_ON_WHATSAPP", True),
        ("that group does not exist", "RECIPIENT_REFUSED", True),
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


def test_what_a_renewed_session_may_mend_is_tried_three_times() -> None:
    stale, asked = classify("server returned error 479"), classify("info query returned status 406: not-acceptable")

    assert isinstance(stale, Refused)
    assert isinstance(asked, Refused)
    assert (stale.max_tries, asked.max_tries) == (3, 3)
