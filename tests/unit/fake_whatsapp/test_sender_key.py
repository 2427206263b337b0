"""Group messages as a sender writes them."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import hkdf
from local.fake_whatsapp.signal import fields
from local.fake_whatsapp.signal.messages import VERSION
from local.fake_whatsapp.signal.ratchet import Chain, WrongSession
from local.fake_whatsapp.signal.sender_key import SenderKey

CHAIN_KEY = b"c" * 32


def key_message(chain: Chain) -> bytes:
    return VERSION + fields.dump({1: 9, 2: chain.counter, 3: chain.key, 4: b"\x05" + b"s" * 32})


def group_message(chain: Chain, plaintext: bytes) -> bytes:
    _, seed = chain.step()
    keys = hkdf(seed, salt=bytes(32), info=b"WhisperGroup", size=48)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(keys[16:]), modes.CBC(keys[:16])).encryptor()
    ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return VERSION + fields.dump({1: 9, 2: chain.counter, 3: ciphertext}) + bytes(64)


def test_a_member_reads_messages_from_its_key_on() -> None:
    first = Chain(CHAIN_KEY)
    third = first.step()[0].step()[0]
    key = SenderKey.parse(key_message(first))

    assert key.unseal(group_message(first, b"one")) == b"one"
    assert key.unseal(group_message(third, b"three")) == b"three"


def test_a_member_does_not_read_messages_from_before_its_key() -> None:
    first = Chain(CHAIN_KEY)
    key = SenderKey.parse(key_message(first.step()[0]))

    with pytest.raises(WrongSession):
        key.unseal(group_message(first, b"one"))


def test_what_a_member_seals_is_read_with_the_key_that_it_hands_out() -> None:
    key, signing = SenderKey(7, Chain(CHAIN_KEY)), curve.generate()

    handed_out = SenderKey.parse(key.distribution(signing))

    assert handed_out == key
    assert handed_out.unseal(key.seal(b"to all", signing)) == b"to all"
