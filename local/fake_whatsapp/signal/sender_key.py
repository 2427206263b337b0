"""Group messages: the key that a sender hands to every member once, and the messages under it."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from local.fake_whatsapp.protocol.curve import hkdf
from local.fake_whatsapp.signal import fields
from local.fake_whatsapp.signal.fields import MalformedMessage
from local.fake_whatsapp.signal.ratchet import FURTHEST_JUMP, Chain, WrongSession

SIGNATURE_BYTES = 64
IV_BYTES = 16
AES_BLOCK_BITS = 128


@dataclass(frozen=True, slots=True)
class SenderKey:
    """A sender's chain from some message on; earlier messages cannot be read with it."""

    key_id: int
    chain: Chain

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
        _, seed = chain.step()
        keys = hkdf(seed, salt=bytes(32), info=b"WhisperGroup", size=48)
        decryptor = Cipher(algorithms.AES(keys[IV_BYTES:]), modes.CBC(keys[:IV_BYTES])).decryptor()
        unpadder = PKCS7(AES_BLOCK_BITS).unpadder()
        try:
            padded = decryptor.update(found.data(3)) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise MalformedMessage("the group ciphertext is not padded") from error
