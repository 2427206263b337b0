"""What a linked device gets: messages that contacts write to it, and their receipts for what it wrote."""

# ruff: noqa: ANN401 - the library's protobuf classes have no static types

from __future__ import annotations

import os
import secrets
from typing import Any

from local.fake_whatsapp import conversations, groups, mailbox
from local.fake_whatsapp.contacts import Addressing
from local.fake_whatsapp.deliveries import DELIVERED
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.mailbox import Letter
from local.fake_whatsapp.phones import ONE_TIME_KEY_IDS, Phone, number_of
from local.fake_whatsapp.protocol.node import Jid, Node
from local.fake_whatsapp.protocol.protos import Message
from local.fake_whatsapp.signal.conversation import Sealed

RETRY = "retry"
NEWSLETTER_SERVER = "newsletter"
# The first byte of a Signal message, and more bytes than the least that one has.
SIGNAL_VERSION = 0x33
GARBLED_BYTES = 80
# What the stanza says outside the encryption about an edit and a revoke.
EDIT_ATTRIBUTES = {14: "1", 0: "7"}


def new_wire_id() -> str:
    """An id as phones make them."""
    return "3A" + secrets.token_hex(9).upper()


def stanza(exchange: Exchange, device: Device, letter: Letter) -> Node:
    """The letter as the client gets it. Sealing moves a ratchet: wait for the disk before sending."""
    if letter.kind == mailbox.RECEIPT:
        return _receipt(exchange, letter)
    if letter.chat.endswith(f"@{NEWSLETTER_SERVER}"):
        return _post(letter)
    if letter.garbled:
        # No ratchet moves for it, so that what comes next can be read.
        sealed = Sealed("msg", bytes((SIGNAL_VERSION,)) + os.urandom(GARBLED_BYTES))
    elif letter.sealed is None or letter.device != device.number:
        sealed = exchange.conversations.seal(letter.contact, device, _to_the_device(exchange, letter))
        exchange.mailbox.seal(letter, device=device.number, sealed=sealed)
    else:
        sealed = letter.sealed
    contact = exchange.contacts.get(letter.contact)
    phone = exchange.contacts.phone(letter.contact)
    attrs = {
        **_named(exchange, phone, letter),
        "id": letter.wire_id,
        "t": str(letter.due_at_ms // 1000),
        "notify": contact.name or letter.contact,
    }
    message = Message.FromString(letter.body)
    media_type = _media_type(message)
    attrs["type"] = _stanza_type(message, media_type)
    if message.HasField("protocolMessage"):
        attrs["edit"] = EDIT_ATTRIBUTES.get(message.protocolMessage.type, "0")
    direct = {"v": "2", "type": sealed.type}
    media = {"mediatype": media_type} if media_type else {}
    if not letter.chat or letter.is_own_copy:
        return Node("message", attrs, (Node("enc", direct | media, sealed.ciphertext),))
    key, signing = groups.sender_key(phone, letter.wire_id)
    to_group = {"v": "2", "type": "skmsg"} | media
    return Node(
        "message",
        attrs,
        (
            Node("enc", direct, sealed.ciphertext),
            Node("enc", to_group, key.seal(conversations.pad(letter.body), signing)),
        ),
    )


def _post(letter: Letter) -> Node:
    """What is posted in a channel: for everybody to read, so nothing is sealed."""
    attrs = {"from": Jid(letter.chat), "id": letter.wire_id, "t": str(letter.due_at_ms // 1000), "type": "text"}
    return Node("message", attrs | {"server_id": str(100 + letter.seq)}, (Node("plaintext", {}, letter.body),))


def _named(exchange: Exchange, phone: Phone, letter: Letter) -> dict[str, str]:
    """Who wrote and where, by number or by alias as that person is addressed."""
    if letter.is_own_copy:
        to = number_of(Jid(letter.chat))
        person, addressing = exchange.contacts.phone(to), exchange.contacts.get(to).addressing
        named = _both(person, addressing, "recipient", pn="peer_recipient_pn", lid="peer_recipient_lid")
        return {"from": phone.jid} | named
    addressing = exchange.contacts.get(letter.contact).addressing
    if letter.chat:
        named = _both(phone, addressing, "participant", pn="participant_pn", lid="participant_lid")
        return {"from": Jid(letter.chat)} | named
    return _both(phone, addressing, "from", pn="sender_pn", lid="sender_lid")


def _both(person: Phone, addressing: Addressing, role: str, *, pn: str, lid: str) -> dict[str, str]:
    match addressing:
        case "pn":
            return {role: person.jid, lid: person.lid}
        case "lid":
            return {role: person.lid, pn: person.jid, "addressing_mode": "lid"}
    return {role: person.lid, "addressing_mode": "lid"}


def _to_the_device(exchange: Exchange, letter: Letter) -> bytes:
    """What is encrypted for this device alone: the message, or the key of a message to a group."""
    if letter.is_own_copy:
        return _sent_copy(Jid(letter.chat), letter.body)
    if not letter.chat:
        return letter.body
    phone = exchange.contacts.phone(letter.contact)
    return groups.hand_out(letter.chat, *groups.sender_key(phone, letter.wire_id))


def _sent_copy(to: Jid, body: bytes) -> bytes:
    """What a phone tells its other devices of a message that it sent."""
    copy = Message()
    copy.deviceSentMessage.destinationJID = to
    copy.deviceSentMessage.message.ParseFromString(body)
    serialized: bytes = copy.SerializeToString()
    return serialized


def send_again(exchange: Exchange, device: Device, wire_id: str) -> None:
    """The client could not decrypt the message: send it again in a session that both sides start anew."""
    letter = exchange.mailbox.again(device.phone, wire_id)
    if letter is not None:
        exchange.conversations.restart(letter.contact, device)


def _receipt(exchange: Exchange, letter: Letter) -> Node:
    phone = exchange.contacts.phone(letter.contact)
    receipt_type = letter.body.decode()
    now = str(letter.due_at_ms // 1000)
    attrs = {"from": phone.lid, "id": letter.wire_id, "t": now}
    if letter.chat:
        attrs |= {"from": Jid(letter.chat), "participant": phone.jid}
    if receipt_type == DELIVERED:
        return Node("receipt", attrs)
    attrs["type"] = receipt_type
    if receipt_type != RETRY:
        return Node("receipt", attrs)
    # With the keys at hand the client opens a new session at once, instead of failing once more in the old one.
    bundle = phone.bundle(phone.lid, one_time_id=secrets.randbelow(ONE_TIME_KEY_IDS))
    retry = Node("retry", {"count": "1", "id": letter.wire_id, "t": now, "v": "1"})
    registration, keys = bundle.children[0], Node("keys", {}, bundle.children[1:])
    return Node("receipt", attrs, (retry, registration, keys))


def _stanza_type(message: Any, media_type: str | None) -> str:
    if media_type is not None:
        return "media"
    if message.HasField("reactionMessage"):
        return "reaction"
    is_poll = message.HasField("pollCreationMessage") or message.HasField("pollUpdateMessage")
    return "poll" if is_poll else "text"


def _media_type(message: Any) -> str | None:
    for name in ("image", "video", "audio", "document", "sticker"):
        if message.HasField(f"{name}Message"):
            return "ptt" if name == "audio" and message.audioMessage.PTT else name
    return None
