"""Groups: every id is one, and its members are the session that asks and the two below."""

from __future__ import annotations

from local.fake_whatsapp.conversations import unpad
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.phones import number_of
from local.fake_whatsapp.protocol.node import Jid, Node
from local.fake_whatsapp.protocol.protos import Message
from local.fake_whatsapp.signal.conversation import Sealed
from local.fake_whatsapp.signal.ratchet import WrongSession
from local.fake_whatsapp.signal.sender_key import SenderKey

MEMBERS = ("5511900000001", "5511900000002")
CREATED_AT = "1700000000"


def describe(exchange: Exchange, device: Device, group: Jid) -> Node:
    """What a client learns about a group before it writes to it."""
    phones = [exchange.contacts.phone(number) for number in (*MEMBERS, device.phone)]
    participants = tuple(Node("participant", {"jid": phone.jid, "lid": phone.lid}) for phone in phones)
    attrs = {
        "id": group.user,
        "subject": f"Group {group.user}",
        "creation": CREATED_AT,
        "creator": phones[0].jid,
        "s_t": CREATED_AT,
        "s_o": phones[0].jid,
        "size": str(len(participants)),
    }
    return Node("group", attrs, participants)


def open_message(exchange: Exchange, device: Device, message: Node) -> bytes:
    """The plaintext as the first member reads it, with the key that the stanza brings for that member.

    whatsmeow sends its sender key with every message, so that none needs to be kept here.
    """
    copies = message.require("participants").children
    copy = next(copy for copy in copies if number_of(copy.jid("jid")) == MEMBERS[0]).require("enc")
    sealed = Sealed(copy.attrs["type"], copy.data)
    carried = Message.FromString(exchange.conversations.unseal(MEMBERS[0], device.phone, sealed))
    key_message = carried.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage
    if not key_message:
        raise WrongSession("the stanza brings no sender key")
    return unpad(SenderKey.parse(key_message).unseal(message.require("enc").data))
