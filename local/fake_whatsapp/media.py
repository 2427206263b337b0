"""Encrypted media: the files that clients upload and download, and the keys that open them."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from local.fake_whatsapp.protocol.curve import hkdf, hmac_sha256

HOST = "mmg.whatsapp.net"
MAC_BYTES = 10
AES_BLOCK_BITS = 128
KEY_PURPOSES = {
    "image": b"WhatsApp Image Keys",
    "sticker": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "history": b"WhatsApp History Keys",
}


class UnreadableMedia(ValueError):
    """The file is not here, or its key does not open it."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A stored file and what a message says about it."""

    direct_path: str
    media_key: bytes
    file_sha256: bytes
    file_enc_sha256: bytes
    file_bytes: int

    @property
    def url(self) -> str:
        return f"https://{HOST}{self.direct_path}"


class MediaFiles:
    """Files by the hash of their bytes, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store the bytes on disk and return their direct path; the same bytes again are no error."""
        name = hashlib.sha256(data).hexdigest()
        target = self._folder / name
        part = self._folder / f"{name}.{os.urandom(4).hex()}.part"
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        # whatsmeow appends its own parameters with `&`, so that a path must bring the `?`.
        return f"/v/{name}?ccb=1"

    def path(self, direct_path: str) -> Path | None:
        """Where the file of that direct path lies, or None."""
        name = direct_path.partition("?")[0].removeprefix("/v/")
        found = self._folder / name
        return found if name.isalnum() and found.is_file() else None

    def encrypt(self, kind: str, plaintext: bytes) -> Encrypted:
        """Encrypt as a phone does before it uploads, and store the result."""
        media_key = os.urandom(32)
        iv, cipher_key, mac_key = _expand(kind, media_key)
        padder = PKCS7(AES_BLOCK_BITS).padder()
        encryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
        data = ciphertext + hmac_sha256(mac_key, iv + ciphertext)[:MAC_BYTES]
        return Encrypted(
            direct_path=self.put(data),
            media_key=media_key,
            file_sha256=hashlib.sha256(plaintext).digest(),
            file_enc_sha256=hashlib.sha256(data).digest(),
            file_bytes=len(plaintext),
        )

    def decrypt(self, kind: str, *, direct_path: str, media_key: bytes) -> bytes:
        """The plaintext of a file that a client uploaded; raises UnreadableMedia."""
        path = self.path(direct_path)
        if path is None:
            raise UnreadableMedia("the file was never uploaded here")
        data = path.read_bytes()
        iv, cipher_key, mac_key = _expand(kind, media_key)
        ciphertext, mac = data[:-MAC_BYTES], data[-MAC_BYTES:]
        if not hmac.compare_digest(hmac_sha256(mac_key, iv + ciphertext)[:MAC_BYTES], mac):
            raise UnreadableMedia("the media key does not open the file")
        decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).decryptor()
        unpadder = PKCS7(AES_BLOCK_BITS).unpadder()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()


def _expand(kind: str, media_key: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(media_key, salt=bytes(32), info=KEY_PURPOSES[kind], size=112)
    return keys[:16], keys[16:48], keys[48:80]
