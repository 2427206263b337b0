"""Keys and signatures that libsignal accepts."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from local.fake_whatsapp.protocol import curve

FIELD = 2**255 - 19


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """XEdDSA, from its definition: an Ed25519 signature under the key's image on the Edwards curve."""
    u = int.from_bytes(public, "little")
    y = (u - 1) * pow(u + 1, -1, FIELD) % FIELD
    sign = signature[63] & 0x80
    edwards = bytearray(y.to_bytes(32, "little"))
    edwards[31] |= sign
    plain = signature[:63] + bytes((signature[63] & 0x7F,))
    Ed25519PublicKey.from_public_bytes(bytes(edwards)).verify(plain, message)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_a_signature_verifies_under_the_public_key(seed: bytes, message: bytes) -> None:
    key = curve.from_seed(seed)

    verify(key.public, message, key.sign(message))


def test_a_signature_does_not_verify_for_another_message() -> None:
    key = curve.generate()

    with pytest.raises(InvalidSignature):
        verify(key.public, b"other", key.sign(b"message"))


def test_two_parties_agree_on_one_secret() -> None:
    ours, theirs = curve.generate(), curve.generate()

    assert ours.agree(theirs.public) == theirs.agree(ours.public)


def test_the_same_seed_gives_the_same_keys() -> None:
    assert curve.from_seed(b"7" * 32) == curve.from_seed(b"7" * 32)
