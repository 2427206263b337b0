"""Encrypt secrets at rest with ZAPHUB_SECRET_KEY, so that a copy of the database alone opens none of them."""

import os
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from shared.domain.errors import Misconfigured

# Says how the rest is to be read; another algorithm or key gets another prefix beside it.
_V1: Final = b"zh1:"
_NONCE_BYTES: Final = 12  # AES-GCM's own size; at random, safe for 2^32 seals under one key


class Sealer:
    """Seals and opens with one key, derived once from the secret key."""

    def __init__(self, secret_key: SecretStr, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        # The secret key has other uses too; `info` keeps this one's key apart from theirs.
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"zaphub sealing v1")
        self._cipher = AESGCM(derive.derive(secret_key.get_secret_value().encode()))
        self._random_bytes = random_bytes

    def seal(self, secret: bytes, *, context: str) -> bytes:
        """Encrypt `secret`, bound to `context` (a row's table and id): moved to another row it does not open."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return _V1 + nonce + self._cipher.encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt what `seal` made. Raises Misconfigured when the key or the context is another, or a bit changed."""
        box = sealed.removeprefix(_V1)
        try:
            # Of another prefix nothing is removed, and the tag refuses it.
            return self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise Misconfigured(
                "a stored secret does not open; ZAPHUB_SECRET_KEY must be the one that it was sealed with."
            ) from None
