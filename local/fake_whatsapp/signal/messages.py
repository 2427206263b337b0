"""The bytes of Signal messages: a ratchet message, and the greeting that wraps a conversation's first ones."""

from __future__ import annotations

from dataclasses import dataclass

from local.fake_whatsapp.protocol.curve import DJB_TYPE, KEY_BYTES, hmac_sha256
from local.fake_whatsapp.signal import fields
from local.fake_whatsapp.signal.fields import MalformedMessage

# Version 3 in both halves: the message's own and the newest that the sender knows.
VERSION = b"\x33"
MAC_BYTES = 8


@dataclass(frozen=True, slots=True)
class RatchetMessage:
    """One ratchet step's ciphertext; `body` is what the MAC covers."""

    ratchet_key: bytes
    counter: int
    ciphertext: bytes
    body: bytes
    mac: bytes

    @classmethod
    def parse(cls, raw: bytes) -> RatchetMessage:
        _check_version(raw)
        body, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        found = fields.load(body[1:])
        return cls(
            ratchet_key=_public_key(found.data(1)),
            counter=found.number(2) or 0,
            ciphertext=found.data(4),
            body=body,
            mac=mac,
        )


@dataclass(frozen=True, slots=True)
class Greeting:
    """A pre-key message: what the responder needs in order to agree on keys, and the first ratchet message."""

    one_time_id: int | None
    signed_id: int
    base_key: bytes
    identity: bytes
    registration_id: int
    message: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Greeting:
        _check_version(raw)
        found = fields.load(raw[1:])
        return cls(
            one_time_id=found.number(1),
            signed_id=found.number(6) or 0,
            base_key=_public_key(found.data(2)),
            identity=_public_key(found.data(3)),
            registration_id=found.number(5) or 0,
            message=found.data(4),
        )

    def dump(self) -> bytes:
        one_time: dict[int, int | bytes] = {} if self.one_time_id is None else {1: self.one_time_id}
        return VERSION + fields.dump(
            one_time
            | {
                2: DJB_TYPE + self.base_key,
                3: DJB_TYPE + self.identity,
                4: self.message,
                5: self.registration_id,
                6: self.signed_id,
            }
        )


def ratchet_body(ratchet_key: bytes, *, counter: int, previous_counter: int, ciphertext: bytes) -> bytes:
    """The bytes of a ratchet message without its MAC."""
    return VERSION + fields.dump({1: DJB_TYPE + ratchet_key, 2: counter, 3: previous_counter, 4: ciphertext})


def mac(key: bytes, body: bytes, *, sender: bytes, receiver: bytes) -> bytes:
    """The MAC binds both identities, so that a message cannot be passed off as another pair's."""
    return hmac_sha256(key, DJB_TYPE + sender + DJB_TYPE + receiver + body)[:MAC_BYTES]


def _check_version(raw: bytes) -> None:
    if len(raw) <= MAC_BYTES or raw[0] >> 4 != VERSION[0] >> 4:
        raise MalformedMessage("not a version 3 message")


def _public_key(serialized: bytes) -> bytes:
    if len(serialized) != len(DJB_TYPE) + KEY_BYTES or serialized[:1] != DJB_TYPE:
        raise MalformedMessage("not a Curve25519 key")
    return serialized[1:]
