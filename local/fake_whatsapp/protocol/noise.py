"""The responder's side of the Noise XX handshake, and the ciphers that it leaves behind."""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local.fake_whatsapp.protocol.curve import hkdf

PROTOCOL_NAME = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
KEY_BYTES = 32


class Cipher:
    """AES-GCM whose nonce is a counter: each direction of a socket has its own."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._counter = 0

    def encrypt(self, plaintext: bytes, associated: bytes | None = None) -> bytes:
        return self._aead.encrypt(self._nonce(), plaintext, associated)

    def decrypt(self, ciphertext: bytes, associated: bytes | None = None) -> bytes:
        """Raises cryptography's InvalidTag when the peer used another key or counter."""
        return self._aead.decrypt(self._nonce(), ciphertext, associated)

    def _nonce(self) -> bytes:
        nonce = struct.pack(">QI", 0, self._counter)
        self._counter += 1
        return nonce


class Handshake:
    """The symmetric state of one handshake: every byte sent or received goes through it in order."""

    def __init__(self, prologue: bytes) -> None:
        self._hash = PROTOCOL_NAME
        self._salt = PROTOCOL_NAME
        self._cipher = Cipher(PROTOCOL_NAME)
        self.authenticate(prologue)

    def authenticate(self, data: bytes) -> None:
        """Bind bytes that travel in the clear."""
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix(self, secret: bytes) -> None:
        """Fold a Diffie-Hellman secret into the key."""
        self._salt, key = self._expand(secret)
        self._cipher = Cipher(key)

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(plaintext, self._hash)
        self.authenticate(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt(ciphertext, self._hash)
        self.authenticate(ciphertext)
        return plaintext

    def finish(self) -> tuple[Cipher, Cipher]:
        """The initiator's sending cipher, then the responder's."""
        first, second = self._expand(b"")
        return Cipher(first), Cipher(second)

    def _expand(self, secret: bytes) -> tuple[bytes, bytes]:
        keys = hkdf(secret, salt=self._salt, info=b"", size=2 * KEY_BYTES)
        return keys[:KEY_BYTES], keys[KEY_BYTES:]
