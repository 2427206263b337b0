"""What a linked device gets: messages that contacts write to it, and their receipts for what it wrote."""

# ruff: noqa: ANN401 - the library's protobuf classes have no static types

from __future__ import annotations

import secrets
from typing import Any

from local.fake_whatsapp import conversations, groups, mailbox
from local.fake_whatsapp.deliveries import DELIVERED
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.mailbox import Letter
from local.fake_whatsapp.phones import ONE_TIME_KEY_IDS, Phone
from local.fake_whatsapp.protocol.node import Jid, Node
from local.fake_whatsapp.protocol.protos import Message

RETRY = "retry"
# What the stanza says outside the encryption about an edit and a revoke.
EDIT_ATTRIBUTES = {14: "1", 0: "7"}


def new_wire_id() -> str:
    """An id as phones make them."""
    return "3A" + secrets.token_hex(9).upper()


def stanza(exchange: Exchange, device: Device, letter: Letter) -> Node:
    """The letter as the client gets it. Sealing moves a ratchet: wait for the disk before sending."""
    if letter.kind == mailbox.RECEIPT:
        return _receipt(exchange, letter)
    if letter.sealed is None or letter.device != device.number:
        sealed = exchange.conversations.seal(letter.contact, device, _to_the_device(exchange, letter))
        exchange.mailbox.seal(letter, device=device.number, sealed=sealed)
    else:
        sealed = letter.sealed
    contact = exchange.contacts.get(letter.contact)
    phone = exchange.contacts.phone(letter.contact)
    attrs = {
        **_sender(phone, letter.chat),
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
    if not letter.chat:
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


def _sender(phone: Phone, group: str) -> dict[str, str]:
    if not group:
        return {"from": phone.jid, "sender_lid": phone.lid}
    return {"from": Jid(group), "participant": phone.jid, "participant_lid": phone.lid}


def _to_the_device(exchange: Exchange, letter: Letter) -> bytes:
    """What is encrypted for this device alone: the message, or the key of a message to a group."""
    if not letter.chat:
        return letter.body
    phone = exchange.contacts.phone(letter.contact)
    return groups.hand_out(letter.chat, *groups.sender_key(phone, letter.wire_id))


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
