"""Signatures of commands to a host: good once, for one command, by one clock."""

import pytest

from shared.hosts.signature import SCHEME, WINDOW_S, Judge, Judgement, Signer, is_here

URL, BODY = "http://10.0.0.5:4711/v1/send", b'{"a": 1}'


class Clock:
    def __init__(self) -> None:
        self.now = 1_780_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_signature_is_good_once(clock: Clock) -> None:
    judge, header = Judge("token", clock=clock), Signer("token", clock=clock).header(URL, BODY)

    assert [judge.judge(header, URL, BODY) for _ in range(3)] == [Judgement.GENUINE, Judgement.USED, Judgement.USED]
    assert judge.judge(Signer("token", clock=clock).header(URL, BODY), URL, BODY) is Judgement.GENUINE


def test_it_is_for_one_url_one_body_and_one_token(clock: Clock) -> None:
    judge, signer = Judge("token", clock=clock), Signer("token", clock=clock)

    assert judge.judge(signer.header(URL, BODY), URL + "x", BODY) is Judgement.WRONG
    assert judge.judge(signer.header(URL, BODY), URL, BODY + b" ") is Judgement.WRONG
    assert judge.judge(Signer("another", clock=clock).header(URL, BODY), URL, BODY) is Judgement.WRONG
    stamp, nonce, mac = signer.header(URL, BODY).removeprefix(f"{SCHEME} ").split(".")
    later = f"{SCHEME} {int(stamp) + 1}.{nonce}.{mac}"
    renamed = f"{SCHEME} {stamp}.{nonce[:-1]}0.{mac}" if nonce[-1] != "0" else f"{SCHEME} {stamp}.{nonce[:-1]}1.{mac}"
    assert judge.judge(later, URL, BODY) is Judgement.WRONG
    assert judge.judge(renamed, URL, BODY) is Judgement.WRONG


@pytest.mark.parametrize("off_s", [-WINDOW_S - 1, WINDOW_S + 1])
def test_another_minute_s_is_stale(clock: Clock, off_s: float) -> None:
    judge, header = Judge("token", clock=clock), Signer("token", clock=clock).header(URL, BODY)

    clock.now += off_s

    assert judge.judge(header, URL, BODY) is Judgement.STALE


def test_it_is_remembered_for_as_long_as_it_could_be_taken(clock: Clock) -> None:
    judge = Judge("token", clock=clock)
    # Made by a clock that is a minute ahead, it could be taken for two minutes.
    ahead = Signer("token", clock=lambda: clock.now + WINDOW_S).header(URL, BODY)
    assert judge.judge(ahead, URL, BODY) is Judgement.GENUINE

    for _ in range(25):
        clock.now += 5
        assert judge.judge(Signer("token", clock=clock).header(URL, BODY), URL, BODY) is Judgement.GENUINE
        assert judge.judge(ahead, URL, BODY) in {Judgement.USED, Judgement.STALE}


def test_what_is_remembered_is_forgotten_again(clock: Clock) -> None:
    judge, signer = Judge("token", clock=clock), Signer("token", clock=clock)

    for _ in range(1000):
        clock.now += 1
        judge.judge(signer.header(URL, BODY), URL, BODY)

    assert len(judge._used) + len(judge._used_before) <= 4 * WINDOW_S + 2


@pytest.mark.parametrize(
    "header",
    ["", "Bearer token", SCHEME, f"{SCHEME} ", f"{SCHEME} 1.2", f"{SCHEME} 1.2.3.4", f"{SCHEME} a.b.ç", "x" * 100_000],
)
def test_what_is_no_signature_is_wrong(clock: Clock, header: str) -> None:
    assert Judge("token", clock=clock).judge(header, URL, BODY) is Judgement.WRONG


@pytest.mark.parametrize(
    ("url", "sockname", "here"),
    [
        (URL, ("10.0.0.5", 4711), True),
        (URL, ("::ffff:10.0.0.5", 4711), True),
        (URL, ("10.0.0.6", 4711), False),
        (URL, ("10.0.0.5", 4712), False),
        ("http://[fe80::1]:4711/v1/send", ("fe80::1%eth0", 4711), True),
        ("http://localhost:4711/v1/send", ("127.0.0.1", 4711), True),
        ("http://localhost/v1/send", ("127.0.0.1", 4711), False),
        ("http://10.0.0.5:99999/v1/send", ("10.0.0.5", 4711), False),
        ("http://[10.0.0.5:4711/v1/send", ("10.0.0.5", 4711), False),
        ("http://", ("10.0.0.5", 4711), False),
    ],
)
def test_a_url_is_here_when_the_socket_is_the_one_it_names(url: str, sockname: tuple[str, int], *, here: bool) -> None:
    assert is_here(url, sockname) is here
