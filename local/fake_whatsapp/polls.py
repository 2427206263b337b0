"""Polls that sessions sent, and the votes of contacts in them: encrypted as a phone does it."""

# ruff: noqa: ANN401 - the library's protobuf classes have no static types

from __future__ import annotations

import hashlib
import os
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local.fake_whatsapp.phones import phone_jid
from local.fake_whatsapp.protocol.curve import hkdf
from local.fake_whatsapp.protocol.protos import Message, PollVote
from local.fake_whatsapp.store import Store

SAVE = "INSERT INTO poll (session_phone, wire_id, secret) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
IV_BYTES = 12


class Polls:
    """The secrets of polls, by session and wire id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        rows = store.read("SELECT session_phone, wire_id, secret FROM poll")
        self._secrets = {(phone, wire_id): bytes(secret) for phone, wire_id, secret in rows}

    def keep(self, session_phone: str, wire_id: str, message: Any) -> None:
        """Remember the poll that a session sent; one without a secret cannot be voted in."""
        if secret := message.messageContextInfo.messageSecret:
            self._secrets[session_phone, wire_id] = secret
            self._store.write(SAVE, session_phone, wire_id, secret)

    def secret(self, session_phone: str, wire_id: str) -> bytes | None:
        return self._secrets.get((session_phone, wire_id))


def vote(
    *, poll: str, secret: bytes, options: list[str], contact: str, session_phone: str, now_s: float, group: str | None
) -> Any:
    """The message in which a contact chooses these options of the session's poll; none of them takes a vote back."""
    writer, voter = phone_jid(session_phone), phone_jid(contact)
    key = hkdf(secret, salt=bytes(32), info=f"{poll}{writer}{voter}Poll Vote".encode(), size=32)
    chosen = PollVote(selectedOptions=[hashlib.sha256(option.encode()).digest() for option in options])
    iv = os.urandom(IV_BYTES)
    sealed = AESGCM(key).encrypt(iv, chosen.SerializeToString(), f"{poll}\0{voter}".encode())
    message = Message()
    found = message.pollUpdateMessage
    found.pollCreationMessageKey.ID = poll
    found.pollCreationMessageKey.fromMe = False
    found.pollCreationMessageKey.remoteJID = group or writer
    if group:
        found.pollCreationMessageKey.participant = writer
    found.vote.encPayload, found.vote.encIV = sealed, iv
    found.senderTimestampMS = int(now_s * 1000)
    return message
