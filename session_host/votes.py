"""Opens votes in polls: they come encrypted under a key that follows from the poll's own secret.

The library stores the secret of every poll that it sends or receives, with its wire id. Opening a vote here rather
than by the library's own call keeps that call out of the library's callback, and works for what was journaled by a
process that is dead by now.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"Poll Vote"
_KEY_BYTES: Final = 32
_HASH_BYTES: Final = 32
# Field 1 of the vote, with its length: the SHA-256 of one option that was chosen.
_CHOSEN: Final = bytes((0x0A, _HASH_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSecret:
    """What opens the votes in one poll. `writers` are the JIDs, without a device, under which its writer is known."""

    key: bytes = field(repr=False)
    writers: tuple[str, ...]


def open_vote(vote: Mapping[str, Any], secrets: Iterable[PollSecret]) -> list[str] | None:
    """The SHA-256, in hex, of each option that was chosen; None when no secret opens the vote.

    A person has two JIDs, and the key is made of the one that his phone used; so each is tried.
    """
    try:
        payload, iv = base64.b64decode(vote["payload"]), base64.b64decode(vote["iv"])
    except (KeyError, TypeError, binascii.Error):
        return None
    voters: Sequence[str] = vote.get("voters", ())
    for secret in secrets:
        for writer, voter in product((*secret.writers, *vote.get("writers", ())), voters):
            key = vote_key(secret.key, poll=vote["poll"], writer=writer, voter=voter)
            try:
                return _chosen(AESGCM(key).decrypt(iv, payload, f"{vote['poll']}\0{voter}".encode()))
            except (InvalidTag, ValueError):
                continue
    return None


def vote_key(secret: bytes, *, poll: str, writer: str, voter: str) -> bytes:
    """The key of one person's votes in one poll."""
    info = f"{poll}{writer}{voter}".encode() + _PURPOSE
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(secret)


def _chosen(opened: bytes) -> list[str]:
    size = len(_CHOSEN) + _HASH_BYTES
    parts = [opened[at : at + size] for at in range(0, len(opened), size)]
    if any(len(part) != size or not part.startswith(_CHOSEN) for part in parts):
        raise ValueError("this is no vote")
    return [part[len(_CHOSEN) :].hex() for part in parts]
