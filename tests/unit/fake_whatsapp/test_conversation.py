"""Two phones read each other through any order, loss and repetition of messages."""

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.fake_whatsapp.phones import SIGNED_KEY_ID, Phone
from local.fake_whatsapp.signal import conversation
from local.fake_whatsapp.signal.agreement import Bundle
from local.fake_whatsapp.signal.conversation import Conversation, Sealed
from local.fake_whatsapp.signal.fields import MalformedMessage
from local.fake_whatsapp.signal.ratchet import KEPT_USED_KEYS, DuplicateMessage, WrongSession

SECRET = b"s" * 32
ONE_TIME_ID = 77


def bundle_of(phone: Phone, *, one_time: bool = True) -> Bundle:
    keyring = phone.keyring
    key = phone.one_time_key(ONE_TIME_ID).public if one_time else None
    return Bundle(keyring.identity.public, SIGNED_KEY_ID, keyring.signed.public, ONE_TIME_ID if one_time else None, key)


@dataclass
class Side:
    """One phone, its end of the conversation, and the messages to it that are still on their way."""

    phone: Phone
    conversation: Conversation = field(default_factory=Conversation)
    on_the_way: list[tuple[Sealed, bytes]] = field(default_factory=list)

    def send(self, to: "Side", plaintext: bytes) -> Sealed:
        if not self.conversation.sessions:
            self.conversation = self.conversation.start(self.phone.keyring, bundle_of(to.phone))
        self.conversation, sealed = self.conversation.seal(self.phone.keyring, plaintext)
        to.on_the_way.append((sealed, plaintext))
        return sealed

    def receive(self, sealed: Sealed) -> bytes:
        self.conversation, plaintext = self.conversation.unseal(self.phone.keyring, sealed)
        return plaintext

    def restart(self) -> None:
        """Everything that the phone knows comes from the disk."""
        self.conversation = conversation.load(conversation.dump(self.conversation))


def pair() -> tuple[Side, Side]:
    return Side(Phone("5511999990001", SECRET)), Side(Phone("5511988887777", SECRET))


steps = st.lists(
    st.tuples(
        st.booleans(), st.sampled_from(("send", "send", "receive", "receive", "lose", "restart")), st.integers(0)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_every_message_that_arrives_is_read_in_any_order_and_both_directions(
    steps: list[tuple[bool, str, int]],
) -> None:
    ours, theirs = pair()
    numbers = count()

    for is_ours, step, choice in steps:
        side, other = (ours, theirs) if is_ours else (theirs, ours)
        if step == "send":
            side.send(other, b"message %d" % next(numbers))
        elif step == "restart":
            side.restart()
        elif side.on_the_way:
            sealed, plaintext = side.on_the_way.pop(choice % len(side.on_the_way))
            if step == "receive":
                assert side.receive(sealed) == plaintext

    for side in (ours, theirs):
        for sealed, plaintext in side.on_the_way:
            assert side.receive(sealed) == plaintext


def test_messages_are_greetings_until_the_other_side_has_answered() -> None:
    ours, theirs = pair()

    types = [ours.send(theirs, b"1").type, ours.send(theirs, b"2").type]
    theirs.receive(theirs.on_the_way[0][0])
    types.append(theirs.send(ours, b"3").type)
    ours.receive(ours.on_the_way[0][0])
    types.append(ours.send(theirs, b"4").type)

    assert types == ["pkmsg", "pkmsg", "msg", "msg"]


def test_a_frame_that_comes_again_is_read_again_until_its_key_is_forgotten() -> None:
    ours, theirs = pair()
    sealed = ours.send(theirs, b"twice")
    theirs.receive(sealed)
    again = theirs.receive(sealed)
    for _ in range(KEPT_USED_KEYS):
        theirs.receive(ours.send(theirs, b"more"))

    assert again == b"twice"
    with pytest.raises(DuplicateMessage):
        theirs.receive(sealed)


def test_two_messages_under_one_key_are_both_read() -> None:
    ours, theirs = pair()
    before = ours.conversation.start(ours.phone.keyring, bundle_of(theirs.phone))
    first = before.seal(ours.phone.keyring, b"first")[1]
    second = before.seal(ours.phone.keyring, b"second")[1]

    assert [theirs.receive(first), theirs.receive(second)] == [b"first", b"second"]


def test_a_failed_message_leaves_the_conversation_as_it_was() -> None:
    ours, theirs = pair()
    theirs.receive(ours.send(theirs, b"first"))
    ours.receive(theirs.send(ours, b"answer"))
    before = theirs.conversation
    sealed = ours.send(theirs, b"second")
    broken = Sealed(sealed.type, sealed.ciphertext[:-1] + bytes((sealed.ciphertext[-1] ^ 1,)))

    with pytest.raises(ValueError, match="no session fits"):
        theirs.receive(broken)

    assert theirs.conversation == before
    assert theirs.receive(sealed) == b"second"


def test_a_hundred_messages_may_be_skipped() -> None:
    ours, theirs = pair()
    sent = [ours.send(theirs, b"%d" % n) for n in range(101)]

    assert theirs.receive(sent[100]) == b"100"
    assert theirs.receive(sent[0]) == b"0"


def test_a_session_without_a_one_time_key_works() -> None:
    ours, theirs = pair()
    ours.conversation = ours.conversation.start(ours.phone.keyring, bundle_of(theirs.phone, one_time=False))

    assert theirs.receive(ours.send(theirs, b"hello")) == b"hello"


def test_a_device_that_was_linked_again_is_understood_and_answered_in_its_new_session() -> None:
    contact, device = pair()
    contact.receive(device.send(contact, b"before"))
    device.receive(contact.send(device, b"answer"))
    again = Side(Phone("5511988887777", b"another secret".ljust(32)))

    assert contact.receive(again.send(contact, b"after")) == b"after"
    assert again.receive(contact.send(again, b"welcome back")) == b"welcome back"


def test_both_sides_may_greet_at_the_same_time() -> None:
    ours, theirs = pair()
    from_us, from_them = ours.send(theirs, b"hi"), theirs.send(ours, b"oi")

    assert theirs.receive(from_us) == b"hi"
    assert ours.receive(from_them) == b"oi"
    assert theirs.receive(ours.send(theirs, b"again")) == b"again"
    assert ours.receive(theirs.send(ours, b"de novo")) == b"de novo"


def test_a_stranger_is_not_read() -> None:
    _, theirs = pair()
    stranger, other = pair()
    other.receive(stranger.send(other, b"x"))
    other.send(stranger, b"y")

    with pytest.raises(WrongSession):
        theirs.receive(stranger.on_the_way[0][0])


@given(st.binary(max_size=200), st.sampled_from(("msg", "pkmsg")))
def test_noise_is_refused(raw: bytes, kind: str) -> None:
    _, theirs = pair()

    with pytest.raises((MalformedMessage, WrongSession)):
        theirs.receive(Sealed(kind, raw))
