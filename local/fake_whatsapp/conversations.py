"""Every contact's Signal sessions with every linked device, kept on disk with what they moved for."""

from __future__ import annotations

import os

from local.fake_whatsapp.contacts import Contacts
from local.fake_whatsapp.devices import Device, Devices
from local.fake_whatsapp.phones import number_of
from local.fake_whatsapp.protocol.node import Node
from local.fake_whatsapp.signal import conversation
from local.fake_whatsapp.signal.conversation import Conversation, Sealed
from local.fake_whatsapp.store import Store

SAVE = """
INSERT INTO conversation (contact, phone, state) VALUES (?1, ?2, ?3)
ON CONFLICT (contact, phone) DO UPDATE SET state = ?3
"""
LONGEST_PADDING = 15


class Conversations:
    """Seals and unseals; each call that moves a ratchet queues its new state for the disk."""

    def __init__(self, store: Store, *, contacts: Contacts, devices: Devices) -> None:
        self._store = store
        self._contacts = contacts
        self._devices = devices
        rows = store.read("SELECT contact, phone, state FROM conversation")
        self._conversations = {(contact, phone): conversation.load(state) for contact, phone, state in rows}

    def seal(self, contact: str, device: Device, plaintext: bytes) -> Sealed:
        """Encrypt for the device, opening a session when it is new to the contact or was linked again."""
        keyring = self._contacts.phone(contact).keyring
        known = self._conversations.get((contact, device.phone), Conversation())
        if not known.sessions or known.sessions[0].their_identity != device.identity:
            known = known.start(keyring, self._devices.take_bundle(device.phone))
        known, sealed = known.seal(keyring, pad(plaintext))
        self._keep(contact, device.phone, known)
        return sealed

    def unseal(self, contact: str, phone: str, sealed: Sealed) -> bytes:
        """Decrypt what the phone's device sent to the contact; raises as `Conversation.unseal` does."""
        known = self._conversations.get((contact, phone), Conversation())
        known, padded = known.unseal(self._contacts.phone(contact).keyring, sealed)
        self._keep(contact, phone, known)
        return unpad(padded)

    def restart(self, contact: str, device: Device) -> None:
        """Open a new session, because the device says that it cannot read the old one."""
        known = self._conversations.get((contact, device.phone), Conversation())
        bundle = self._devices.take_bundle(device.phone)
        self._keep(contact, device.phone, known.start(self._contacts.phone(contact).keyring, bundle))

    def _keep(self, contact: str, phone: str, known: Conversation) -> None:
        self._conversations[contact, phone] = known
        self._store.write(SAVE, contact, phone, conversation.dump(known))


def sealed_for(number: str, message: Node) -> Sealed:
    """What a stanza brings for the phone of that number; LookupError when it brings nothing."""
    direct = message.child("enc")
    if direct is None:
        copies = message.require("participants").children
        theirs = next((copy for copy in copies if number_of(copy.jid("jid")) == number), None)
        if theirs is None:
            raise LookupError("<participants> has no copy for the recipient")
        direct = theirs.require("enc")
    return Sealed(direct.attrs["type"], direct.data)


def unpad(padded: bytes) -> bytes:
    """Take WhatsApp's own padding away; what is all padding, or none, comes back empty."""
    return padded[: -padded[-1]] if padded else padded


def pad(plaintext: bytes) -> bytes:
    """WhatsApp hides lengths behind 1 to 15 bytes, each of which says how many there are."""
    size = os.urandom(1)[0] % LONGEST_PADDING + 1
    return plaintext + bytes((size,)) * size
