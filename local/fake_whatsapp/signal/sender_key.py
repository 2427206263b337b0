"""Group messages: the key that a sender hands to every member once, and the messages under it."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from local.fake_whatsapp.protocol.curve import DJB_TYPE, KeyPair, hkdf
from local.fake_whatsapp.signal import fields
from local.fake_whatsapp.signal.fields import MalformedMessage
from local.fake_whatsapp.signal.messages import VERSION
from local.fake_whatsapp.signal.ratchet import FURTHEST_JUMP, Chain, WrongSession

SIGNATURE_BYTES = 64
IV_BYTES = 16
AES_BLOCK_BITS = 128


@dataclass(frozen=True, slots=True)
class SenderKey:
    """A sender's chain from some message on; earlier messages cannot be read with it."""

    key_id: int
    chain: Chain

    def distribution(self, signing: KeyPair) -> bytes:
        """The message that hands this key to the members, with the key that its signatures are checked with."""
        public = DJB_TYPE + signing.public
        return VERSION + fields.dump({1: self.key_id, 2: self.chain.counter, 3: self.chain.key, 4: public})

    def seal(self, plaintext: bytes, signing: KeyPair) -> bytes:
        """The first message under this key."""
        keys = self._keys(self.chain)
        padder = PKCS7(AES_BLOCK_BITS).padder()
        encryptor = Cipher(algorithms.AES(keys[IV_BYTES:]), modes.CBC(keys[:IV_BYTES])).encryptor()
        ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
        body = VERSION + fields.dump({1: self.key_id, 2: self.chain.counter, 3: ciphertext})
        return body + signing.sign(body)

    @classmethod
    def parse(cls, raw: bytes) -> SenderKey:
        """Read a key distribution message; raises MalformedMessage."""
        found = fields.load(raw[1:])
        return cls(found.number(1) or 0, Chain(found.data(3), found.number(2) or 0))

    def unseal(self, raw: bytes) -> bytes:
        """Decrypt one message; its signature is not checked, since nobody stands between the two sides here.

        Raises WrongSession for a message under another key, or from before this one.
        """
        found = fields.load(raw[1:-SIGNATURE_BYTES])
        counter = found.number(2) or 0
        if (found.number(1) or 0) != self.key_id or not 0 <= counter - self.chain.counter <= FURTHEST_JUMP:
            raise WrongSession("the group message is under another key")
        chain = self.chain
        while chain.counter < counter:
            chain, _ = chain.step()
        keys = self._keys(chain)
        decryptor = Cipher(algorithms.AES(keys[IV_BYTES:]), modes.CBC(keys[:IV_BYTES])).decryptor()
        unpadder = PKCS7(AES_BLOCK_BITS).unpadder()
        try:
            padded = decryptor.update(found.data(3)) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise MalformedMessage("the group ciphertext is not padded") from error

    @staticmethod
    def _keys(chain: Chain) -> bytes:
        """The IV and the key of the message that is next in the chain."""
        _, seed = chain.step()
        return hkdf(seed, salt=bytes(32), info=b"WhisperGroup", size=48)
