"""The double ratchet of one session: every function takes a state and returns the next one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair, hkdf, hmac_sha256
from local.fake_whatsapp.signal import messages
from local.fake_whatsapp.signal.fields import MalformedMessage
from local.fake_whatsapp.signal.messages import RatchetMessage

# libsignal's own limit: a peer that jumps further is broken or hostile.
FURTHEST_JUMP = 25_000
# libsignal keeps 5 receiving chains; a few more cost nothing here and lose fewer late messages.
KEPT_CHAINS = 20
KEPT_SKIPPED_KEYS = 2_000
# whatsmeow does not lock a session between reading and storing it: a send that meets an arriving message may use the
# same key as the send before it (about 3 in 100 when both happen every few milliseconds). A strict peer would lose
# that message; keeping the last keys reads it, and reads a frame that comes again.
KEPT_USED_KEYS = 16
AES_BLOCK_BITS = 128


class DuplicateMessage(ValueError):
    """The message's key was used and is forgotten: the same message arrived before, long ago."""


class WrongSession(ValueError):
    """The message belongs to another session, or was tampered with."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain key and the counter of the next message that it gives."""

    key: bytes
    counter: int = 0

    def step(self) -> tuple[Chain, bytes]:
        """The next link and the seed of this message's keys."""
        return Chain(hmac_sha256(self.key, b"\x02"), self.counter + 1), hmac_sha256(self.key, b"\x01")


@dataclass(frozen=True, slots=True)
class Receiving:
    """What the peer sends under one of its ratchet keys."""

    their_key: bytes
    chain: Chain


@dataclass(frozen=True, slots=True)
class Hello:
    """What our messages must repeat until the peer has answered one: it names the keys that we agreed with."""

    one_time_id: int | None
    signed_id: int


@dataclass(frozen=True, slots=True)
class Ratchet:
    """One side of a session. `base_key` is the initiator's, and names the session to both sides."""

    our_identity: bytes
    their_identity: bytes
    base_key: bytes
    root: bytes
    our_key: KeyPair
    sending: Chain
    previous_counter: int = 0
    receiving: tuple[Receiving, ...] = ()
    skipped: Mapping[tuple[bytes, int], bytes] = field(default_factory=dict)
    used: Mapping[tuple[bytes, int], bytes] = field(default_factory=dict)
    hello: Hello | None = None


def seal(state: Ratchet, plaintext: bytes) -> tuple[Ratchet, bytes]:
    """The next state and one ratchet message."""
    chain, seed = state.sending.step()
    keys = _MessageKeys.of(seed)
    body = messages.ratchet_body(
        state.our_key.public,
        counter=state.sending.counter,
        previous_counter=state.previous_counter,
        ciphertext=keys.encrypt(plaintext),
    )
    mac = messages.mac(keys.mac, body, sender=state.our_identity, receiver=state.their_identity)
    return replace(state, sending=chain), body + mac


def unseal(state: Ratchet, message: RatchetMessage) -> tuple[Ratchet, bytes]:
    """The next state and the plaintext; messages may come late, out of order, never, or soon again.

    Raises DuplicateMessage for one whose key is forgotten, WrongSession when its MAC is not this session's.
    """
    if all(message.ratchet_key != receiving.their_key for receiving in state.receiving):
        state = _turn(state, message.ratchet_key)
    state, seed = _seed_of(state, message)
    keys = _MessageKeys.of(seed)
    expected = messages.mac(keys.mac, message.body, sender=state.their_identity, receiver=state.our_identity)
    if not hmac.compare_digest(expected, message.mac):
        raise WrongSession("the MAC does not match")
    return replace(state, hello=None), keys.decrypt(message.ciphertext)


def _turn(state: Ratchet, their_key: bytes) -> Ratchet:
    """The peer has a new ratchet key: a receiving chain for it, and a sending chain that answers it."""
    root, receiving_key = derive_chain(state.root, state.our_key, their_key)
    our_key = curve.generate()
    root, sending_key = derive_chain(root, our_key, their_key)
    return replace(
        state,
        root=root,
        our_key=our_key,
        sending=Chain(sending_key),
        previous_counter=max(state.sending.counter - 1, 0),
        receiving=(*state.receiving, Receiving(their_key, Chain(receiving_key)))[-KEPT_CHAINS:],
    )


def derive_chain(root: bytes, ours: KeyPair, theirs: bytes) -> tuple[bytes, bytes]:
    """One turn of the Diffie-Hellman ratchet: the next root key and a chain key."""
    keys = hkdf(ours.agree(theirs), salt=root, info=b"WhisperRatchet", size=64)
    return keys[:32], keys[32:]


def _seed_of(state: Ratchet, message: RatchetMessage) -> tuple[Ratchet, bytes]:
    """The seed of this message's keys, keeping it a while, and the seeds of those that it overtook."""
    at = next(i for i, receiving in enumerate(state.receiving) if receiving.their_key == message.ratchet_key)
    chain = state.receiving[at].chain
    name = (message.ratchet_key, message.counter)
    if message.counter < chain.counter:
        if name in state.used:
            return state, state.used[name]
        if name not in state.skipped:
            raise DuplicateMessage(f"message {message.counter} was opened before")
        rest = {key: seed for key, seed in state.skipped.items() if key != name}
        return _remember(replace(state, skipped=rest), name, state.skipped[name])
    if message.counter - chain.counter > FURTHEST_JUMP:
        raise WrongSession(f"message {message.counter} is too far ahead of {chain.counter}")

    skipped = dict(state.skipped)
    while chain.counter < message.counter:
        counter = chain.counter
        chain, skipped[message.ratchet_key, counter] = chain.step()
    for oldest in list(skipped)[: max(len(skipped) - KEPT_SKIPPED_KEYS, 0)]:
        del skipped[oldest]
    chain, seed = chain.step()
    receiving = (*state.receiving[:at], Receiving(message.ratchet_key, chain), *state.receiving[at + 1 :])
    return _remember(replace(state, receiving=receiving, skipped=skipped), name, seed)


def _remember(state: Ratchet, name: tuple[bytes, int], seed: bytes) -> tuple[Ratchet, bytes]:
    used = {**state.used, name: seed}
    for oldest in list(used)[: max(len(used) - KEPT_USED_KEYS, 0)]:
        del used[oldest]
    return replace(state, used=used), seed


@dataclass(frozen=True, slots=True)
class _MessageKeys:
    cipher: bytes
    mac: bytes
    iv: bytes

    @classmethod
    def of(cls, seed: bytes) -> _MessageKeys:
        keys = hkdf(seed, salt=bytes(32), info=b"WhisperMessageKeys", size=80)
        return cls(keys[:32], keys[32:64], keys[64:])

    def encrypt(self, plaintext: bytes) -> bytes:
        padder = PKCS7(AES_BLOCK_BITS).padder()
        encryptor = Cipher(algorithms.AES(self.cipher), modes.CBC(self.iv)).encryptor()
        return encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()

    def decrypt(self, ciphertext: bytes) -> bytes:
        decryptor = Cipher(algorithms.AES(self.cipher), modes.CBC(self.iv)).decryptor()
        unpadder = PKCS7(AES_BLOCK_BITS).unpadder()
        try:
            padded = decryptor.update(ciphertext) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise MalformedMessage("the ciphertext is not padded") from error
