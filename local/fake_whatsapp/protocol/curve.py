"""Curve25519 keys as WhatsApp uses them: agreement, XEdDSA signatures, and the HKDF around them."""

import hashlib
import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl import bindings

KEY_BYTES = 32
# Signal marks a serialized public key with the type of its curve.
DJB_TYPE = b"\x05"
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its public half, 32 bytes each."""

    private: bytes
    public: bytes

    def agree(self, their_public: bytes) -> bytes:
        """The Diffie-Hellman secret; ValueError for a public key that would give all zeros."""
        mine = X25519PrivateKey.from_private_bytes(self.private)
        return mine.exchange(X25519PublicKey.from_public_bytes(their_public))

    def sign(self, message: bytes) -> bytes:
        """An XEdDSA signature, as libsignal verifies it: 64 bytes, the sign bit in the last one."""
        scalar = int.from_bytes(self.private, "little") % _GROUP_ORDER
        public = bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar_bytes(scalar))
        nonce = int.from_bytes(os.urandom(64), "little") % _GROUP_ORDER
        commitment = bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar_bytes(nonce))
        digest = hashlib.sha512(commitment + public + message).digest()
        challenge = int.from_bytes(digest, "little") % _GROUP_ORDER
        proof = bytearray(_scalar_bytes((nonce + challenge * scalar) % _GROUP_ORDER))
        proof[31] |= public[31] & 0x80
        return commitment + bytes(proof)


def generate() -> KeyPair:
    return from_seed(os.urandom(KEY_BYTES))


def from_seed(seed: bytes) -> KeyPair:
    """The key pair whose private half is the clamped seed: the same seed gives the same keys."""
    private = bytearray(seed)
    private[0] &= 248
    private[31] &= 127
    private[31] |= 64
    public = X25519PrivateKey.from_private_bytes(bytes(private)).public_key()
    return KeyPair(bytes(private), public.public_bytes_raw())


def hkdf(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt, info).derive(secret)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _scalar_bytes(scalar: int) -> bytes:
    return scalar.to_bytes(KEY_BYTES, "little")
