"""Whatever headers an endpoint asks for: those that are let in arrive as they are, and none changes the request."""

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.errors import InvalidInput
from shared.webhooks.headers import check_headers, merge

OURS = {
    "Host": "hook.example",
    "Content-Length": "2",
    "Content-Type": "application/json",
    "webhook-id": "d-1",
    "webhook-timestamp": "1767225600",
    "webhook-signature": "v1,x",
    "X-ZapHub-Event": "message.sent",
}
LIKELY = st.sampled_from(
    [*OURS, *map(str.swapcase, OURS), "Transfer-Encoding", "Connection", "Authorization", "webhook_id", "X-Team", "TE"]
)
NAMES = LIKELY | st.text(max_size=30) | st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
VALUES = st.text(max_size=60) | st.sampled_from(["a", "chunked", "a\r\nHost: evil", "a\nb", "a\0b", "\tx", "ção"])


def on_the_wire(headers: dict[str, str]) -> list[tuple[str, str]]:
    """The headers as a server reads them from what a client of httpcore's own library writes."""
    client, server = h11.Connection(h11.CLIENT), h11.Connection(h11.SERVER)
    request = h11.Request(method="POST", target="/", headers=list(headers.items()))
    sent = client.send(request) + client.send(h11.Data(data=b"{}")) + client.send(h11.EndOfMessage())
    server.receive_data(sent)
    received, body, end = server.next_event(), server.next_event(), server.next_event()
    assert isinstance(received, h11.Request)
    assert isinstance(body, h11.Data)
    assert bytes(body.data) == b"{}"
    assert isinstance(end, h11.EndOfMessage)
    return [(name.decode(), value.decode()) for name, value in received.headers]


@given(st.dictionaries(NAMES, VALUES, max_size=5))
@example({"X-Note": "a\r\nHost: evil"})
@example({"webhook_id": "forged"})
@example({"Transfer-Encoding": "chunked"})
def test_what_is_let_in_arrives_as_it_is_and_changes_nothing_of_ours(wanted: dict[str, str]) -> None:
    try:
        own = check_headers(wanted)
    except InvalidInput:
        return

    received = on_the_wire(merge(own, OURS))

    assert len(received) == len(own) + len(OURS)
    as_cgi = {name.upper().replace("-", "_"): value for name, value in received}
    assert len(as_cgi) == len(received), "a receiver that folds names still reads each of them"
    for name, value in [*own.items(), *OURS.items()]:
        assert as_cgi[name.upper().replace("-", "_")] == value


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_ours_arrive_whatever_was_stored(stored: dict[str, str]) -> None:
    merged = merge(stored, OURS)

    assert OURS.items() <= merged.items()
    assert sum(name.lower().replace("_", "-") == "webhook-signature" for name in merged) == 1
