"""Linking by code, with the client's side written out."""

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local.fake_whatsapp import link_code
from local.fake_whatsapp.link_code import WrongCode
from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair, hkdf


class Client:
    """What whatsmeow does when it asks for a code."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.identity = curve.generate()
        self._ephemeral = curve.generate()

    def hello(self) -> bytes:
        salt, iv = os.urandom(32), os.urandom(16)
        return salt + iv + link_code._cipher(self.code, salt, iv, self._ephemeral.public)

    def finish(self, wrapped_ephemeral: bytes, phone_identity: bytes) -> tuple[bytes, bytes]:
        """The wrapped bundle, and the secret that the client goes on with."""
        their_ephemeral = link_code._cipher(self.code, *link_code._split(wrapped_ephemeral))
        shared = self._ephemeral.agree(their_ephemeral)
        salt, nonce, secret = os.urandom(32), os.urandom(12), os.urandom(32)
        key = hkdf(shared, salt=salt, info=link_code.BUNDLE_INFO, size=32)
        bundle = AESGCM(key).encrypt(nonce, self.identity.public + phone_identity + secret, None)
        mixed = shared + self.identity.agree(phone_identity) + secret
        return salt + nonce + bundle, hkdf(mixed, salt=bytes(32), info=b"adv_secret", size=32)


def link(client: Client, phone: KeyPair, *, typed: str) -> tuple[bytes, bytes]:
    """The secret on the phone's side and on the client's."""
    side = link_code.hello(typed, client.hello(), identity=phone)
    bundle, client_secret = client.finish(side.wrapped_ephemeral, phone.public)
    secret = link_code.finish(side, wrapped_bundle=bundle, client_identity=client.identity.public)
    return secret, client_secret


def test_the_right_code_gives_both_sides_one_secret() -> None:
    phone_secret, client_secret = link(Client("4J35WRRN"), curve.generate(), typed="4J35WRRN")

    assert phone_secret == client_secret


def test_a_wrong_code_is_noticed() -> None:
    with pytest.raises(WrongCode):
        link(Client("4J35WRRN"), curve.generate(), typed="4J35WRRM")
