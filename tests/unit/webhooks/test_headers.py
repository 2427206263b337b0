"""An endpoint's own headers: useful ones are sent, ours cannot be taken, and none can break a request."""

import pytest

from shared.domain.errors import InvalidInput
from shared.webhooks.headers import check_headers, merge


def test_an_authorization_header_is_the_endpoints_to_set() -> None:
    headers = {"Authorization": "Bearer abc", "X-Team": "support desk"}

    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    "name",
    [
        *["Host", "host", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"],
        *["Content-Length", "Content-Type", "Content-Encoding", "Accept-Encoding", "User-Agent", "Cookie"],
        *["Content-Location", "Content-Range", "content-md5", "Set-Cookie", "Forwarded", "Via", "X-Real-IP"],
        *[
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "Range",
            "X-Hub-Signature-256",
            "HTTP2-Settings",
            "Max-Forwards",
            "Proxy-Connection",
        ],
        *["webhook_id", "Webhook_Signature", "x_zaphub_event", "Content_Length", "TRANSFER_ENCODING"],
        *["webhook-id", "Webhook-Signature", "X-ZapHub-Event", "Proxy-Authorization", "X-Forwarded-For"],
        *["", "a b", "a:b", ":path", "a\r\nb", "ação", "a" * 101],
    ],
)
def test_a_reserved_or_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_headers({name: "x"})


@pytest.mark.parametrize("value", ["", " ", " x", "x ", "a\r\nHost: b", "a\nb", "a\0", "ação", "a\tb", "x" * 1025])
def test_a_value_that_would_fail_on_every_attempt_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_headers({"X-Note": value})

    assert refused.value.pointer == "/headers/X-Note"


def test_more_than_twenty_headers_or_one_named_twice_are_refused() -> None:
    with pytest.raises(InvalidInput):
        check_headers({f"X-{number}": "x" for number in range(21)})
    with pytest.raises(InvalidInput):
        check_headers({"X-Note": "a", "x-note": "b"})
    with pytest.raises(InvalidInput):
        check_headers({"X-Note": "a", "X_Note": "b"})


def test_ours_win_over_whatever_is_stored() -> None:
    sent = merge({"WEBHOOK-ID": "forged", "Webhook_Id": "forged", "X-Team": "a"}, {"webhook-id": "ours"})

    assert sent == {"X-Team": "a", "webhook-id": "ours"}
