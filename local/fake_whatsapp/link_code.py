"""The cryptography of linking by code: both sides prove that they know the eight letters on the screen."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair, hkdf

KEY_ROUNDS = 1 << 17
SALT_BYTES = 32
IV_BYTES = 16
NONCE_BYTES = 12
BUNDLE_INFO = b"link_code_pairing_key_bundle_encryption_key"


class WrongCode(ValueError):
    """The code that the phone typed is not the one that the client shows."""


@dataclass(frozen=True, slots=True)
class PhoneSide:
    """What the phone keeps between its hello and the client's finish."""

    identity: KeyPair
    ephemeral: KeyPair
    client_ephemeral: bytes
    wrapped_ephemeral: bytes


def hello(code: str, wrapped_client_ephemeral: bytes, *, identity: KeyPair) -> PhoneSide:
    """Answer the client's hello with the typed code. Takes about 0.1 s of CPU: call it in a thread."""
    salt, iv, encrypted = _split(wrapped_client_ephemeral)
    ephemeral = curve.generate()
    our_salt, our_iv = os.urandom(SALT_BYTES), os.urandom(IV_BYTES)
    return PhoneSide(
        identity=identity,
        ephemeral=ephemeral,
        client_ephemeral=_cipher(code, salt, iv, encrypted),
        wrapped_ephemeral=our_salt + our_iv + _cipher(code, our_salt, our_iv, ephemeral.public),
    )


def finish(side: PhoneSide, *, wrapped_bundle: bytes, client_identity: bytes) -> bytes:
    """The secret that authenticates the pairing; raises WrongCode when the client's bundle does not open."""
    salt, nonce = wrapped_bundle[:SALT_BYTES], wrapped_bundle[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
    shared = side.ephemeral.agree(side.client_ephemeral)
    key = hkdf(shared, salt=salt, info=BUNDLE_INFO, size=32)
    try:
        bundle = AESGCM(key).decrypt(nonce, wrapped_bundle[SALT_BYTES + NONCE_BYTES :], None)
    except InvalidTag as error:
        raise WrongCode("the code is not the one that the client shows") from error
    secret = shared + side.identity.agree(client_identity) + bundle[2 * curve.KEY_BYTES :]
    return hkdf(secret, salt=bytes(32), info=b"adv_secret", size=32)


def _split(wrapped: bytes) -> tuple[bytes, bytes, bytes]:
    return wrapped[:SALT_BYTES], wrapped[SALT_BYTES : SALT_BYTES + IV_BYTES], wrapped[SALT_BYTES + IV_BYTES :]


def _cipher(code: str, salt: bytes, iv: bytes, key: bytes) -> bytes:
    derived = hashlib.pbkdf2_hmac("sha256", code.encode(), salt, KEY_ROUNDS, 32)
    encryptor = Cipher(algorithms.AES(derived), modes.CTR(iv)).encryptor()
    return encryptor.update(key) + encryptor.finalize()
