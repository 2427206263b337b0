"""Groups: those that were told of, and any other id, whose members are the session that asks and the two below."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.fake_whatsapp.conversations import unpad
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.phones import Phone, number_of
from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair
from local.fake_whatsapp.protocol.node import GROUP_SERVER, Jid, Node
from local.fake_whatsapp.protocol.protos import Message
from local.fake_whatsapp.signal.conversation import Sealed
from local.fake_whatsapp.signal.ratchet import Chain, WrongSession
from local.fake_whatsapp.signal.sender_key import SenderKey
from local.fake_whatsapp.store import Store

if TYPE_CHECKING:
    from local.fake_whatsapp.exchange import Exchange

MEMBERS = ("5511900000001", "5511900000002")
CREATED_AT = "1700000000"
SAVE = """
INSERT INTO chat_group (jid, subject, members, without) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (jid) DO UPDATE SET subject = ?2, members = ?3, without = ?4
"""


@dataclass(frozen=True, slots=True)
class Group:
    """`members` are phones beside those of the sessions, which are in every group but for those `without`."""

    jid: str
    subject: str
    members: tuple[str, ...] = MEMBERS
    without: tuple[str, ...] = ()


class NotInGroup(Exception):
    """The session is in no such group."""


class Groups:
    """All groups by JID."""

    def __init__(self, store: Store) -> None:
        self._store = store
        rows = store.read("SELECT jid, subject, members, without FROM chat_group")
        self._groups = {
            jid: Group(jid, subject, tuple(json.loads(members)), tuple(json.loads(without)))
            for jid, subject, members, without in rows
        }

    def get(self, jid: str) -> Group:
        return self._groups.get(jid) or Group(jid, f"Group {jid.partition('@')[0]}")

    def put(self, group: Group) -> None:
        """Keep the group, in place of what was known of it."""
        self._groups[group.jid] = group
        self._store.write(SAVE, group.jid, group.subject, json.dumps(group.members), json.dumps(group.without))

    def new_jid(self) -> str:
        return f"{120363000000000000 + len(self._groups) + 1}@{GROUP_SERVER}"


def describe(exchange: Exchange, device: Device, jid: Jid) -> Node:
    """What a client learns about a group before it writes to it. Raises NotInGroup."""
    group = exchange.groups.get(str(jid))
    if device.phone in group.without:
        raise NotInGroup(group.jid)
    numbers = dict.fromkeys((*group.members, device.phone))
    phones = [exchange.contacts.phone(number) for number in numbers]
    participants = tuple(Node("participant", {"jid": phone.jid, "lid": phone.lid}) for phone in phones)
    attrs = {
        "id": jid.user,
        "subject": group.subject,
        "creation": CREATED_AT,
        "creator": phones[0].jid,
        "s_t": CREATED_AT,
        "s_o": phones[0].jid,
        "size": str(len(participants)),
    }
    return Node("group", attrs, participants)


def open_message(exchange: Exchange, device: Device, message: Node) -> bytes:
    """The plaintext as one member reads it, with the key that the stanza brings for that member.

    whatsmeow sends its sender key with every message, so that none needs to be kept here.
    """
    members = exchange.groups.get(str(message.jid("to"))).members
    copies = {number_of(copy.jid("jid")): copy for copy in reversed(message.require("participants").children)}
    reader = next((member for member in members if member in copies), None)
    if reader is None:
        raise WrongSession("the stanza is for no member of the group")
    copy = copies[reader].require("enc")
    sealed = Sealed(copy.attrs["type"], copy.data)
    carried = Message.FromString(exchange.conversations.unseal(reader, device.phone, sealed))
    key_message = carried.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage
    if not key_message:
        raise WrongSession("the stanza brings no sender key")
    return unpad(SenderKey.parse(key_message).unseal(message.require("enc").data))


def sender_key(writer: Phone, wire_id: str) -> tuple[SenderKey, KeyPair]:
    """The key of one message of a member, and what signs it: new for each, and the same when it is sent again."""
    chain = writer.secret_of(f"sender key {wire_id}")
    key_id = int.from_bytes(chain[:4], "big") & 0x7FFFFFFF
    return SenderKey(key_id, Chain(chain)), curve.from_seed(writer.secret_of(f"signing key {wire_id}"))


def hand_out(group: str, key: SenderKey, signing: KeyPair) -> bytes:
    """The message to each member that brings the key of the message to the group."""
    message = Message()
    message.senderKeyDistributionMessage.groupID = group
    message.senderKeyDistributionMessage.axolotlSenderKeyDistributionMessage = key.distribution(signing)
    serialized: bytes = message.SerializeToString()
    return serialized
