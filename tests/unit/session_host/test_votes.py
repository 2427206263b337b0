"""Votes in polls: whoever knows the poll's secret opens them, under either JID of writer and voter."""

import base64
from itertools import product

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from session_host.votes import PollSecret, open_vote, vote_key

SECRET, IV, POLL = b"s" * 32, b"i" * 12, "3EB0AA"
WRITERS = ("5511900000001@s.whatsapp.net", "91@lid")
VOTERS = ("5511900000002@s.whatsapp.net", "92@lid")
CHOSEN = bytes(range(32))


def sealed(plaintext: bytes, *, writer: str = WRITERS[0], voter: str = VOTERS[0]) -> dict[str, object]:
    key = vote_key(SECRET, poll=POLL, writer=writer, voter=voter)
    payload = AESGCM(key).encrypt(IV, plaintext, f"{POLL}\0{voter}".encode())
    return {
        "poll": POLL,
        "payload": base64.b64encode(payload).decode(),
        "iv": base64.b64encode(IV).decode(),
        "voters": list(VOTERS),
        "writers": [],
    }


@pytest.mark.parametrize(("writer", "voter"), list(product(WRITERS, VOTERS)))
def test_a_vote_is_opened_whichever_jid_its_phones_used(writer: str, voter: str) -> None:
    vote = sealed(b"\x0a\x20" + CHOSEN, writer=writer, voter=voter)

    assert open_vote(vote, [PollSecret(key=SECRET, writers=WRITERS)]) == [CHOSEN.hex()]


def test_the_secret_of_another_poll_opens_nothing() -> None:
    assert open_vote(sealed(b""), [PollSecret(key=b"x" * 32, writers=WRITERS)]) is None
    assert open_vote(sealed(b""), []) is None


def test_a_vote_that_was_taken_back_chooses_nothing() -> None:
    assert open_vote(sealed(b""), [PollSecret(key=SECRET, writers=WRITERS)]) == []


@pytest.mark.parametrize("plaintext", [b"no vote at all", b"\x0a\x20short", b"\x12\x20" + CHOSEN])
def test_what_is_no_vote_is_none(plaintext: bytes) -> None:
    assert open_vote(sealed(plaintext), [PollSecret(key=SECRET, writers=WRITERS)]) is None


@pytest.mark.parametrize("broken", [{"payload": "%"}, {"iv": None}, {"voters": []}])
def test_a_broken_vote_is_none(broken: dict[str, object]) -> None:
    assert open_vote({**sealed(b""), **broken}, [PollSecret(key=SECRET, writers=WRITERS)]) is None
