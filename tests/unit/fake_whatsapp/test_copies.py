"""Of the copies in a stanza the recipient's is opened; a stanza without one is refused as unreadable."""

import pytest

from local.fake_whatsapp.conversations import sealed_for
from local.fake_whatsapp.protocol.node import USER_SERVER, Jid, Node
from local.fake_whatsapp.signal.conversation import Sealed

PHONE, CONTACT = "5511988887777", "5511999990001"


def message(*readers: str) -> Node:
    """With one copy for each of these numbers."""
    copies = tuple(
        Node("to", {"jid": Jid(f"{reader}@{USER_SERVER}")}, (Node("enc", {"type": "msg"}, reader.encode()),))
        for reader in readers
    )
    return Node("message", {}, (Node("participants", {}, copies),))


def test_the_recipients_copy_is_taken() -> None:
    assert sealed_for(CONTACT, message(PHONE, CONTACT)) == Sealed("msg", CONTACT.encode())


def test_a_stanza_without_a_copy_for_its_recipient_lacks_what_a_message_must_have() -> None:
    with pytest.raises(LookupError, match="no copy for the recipient"):
        sealed_for(CONTACT, message(PHONE))
