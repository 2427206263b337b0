"""X3DH: how two parties that never met agree on the first keys of a session."""

from __future__ import annotations

from dataclasses import dataclass

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair, hkdf
from local.fake_whatsapp.signal.messages import Greeting
from local.fake_whatsapp.signal.ratchet import Chain, Hello, Ratchet, Receiving, derive_chain

# Signal starts the secret with 32 bytes that no Diffie-Hellman output has, to separate it from older versions.
DISCONTINUITY = b"\xff" * 32


@dataclass(frozen=True, slots=True)
class Bundle:
    """The public keys that one device left with the server for those who want to write to it."""

    identity: bytes
    signed_id: int
    signed_key: bytes
    one_time_id: int | None = None
    one_time_key: bytes | None = None


def initiate(identity: KeyPair, bundle: Bundle) -> Ratchet:
    """Our side of a new session with the device that left the bundle."""
    base = curve.generate()
    secret = DISCONTINUITY + identity.agree(bundle.signed_key)
    secret += base.agree(bundle.identity) + base.agree(bundle.signed_key)
    if bundle.one_time_key is not None:
        secret += base.agree(bundle.one_time_key)
    root, chain_key = _first_keys(secret)

    our_key = curve.generate()
    root, sending_key = derive_chain(root, our_key, bundle.signed_key)
    return Ratchet(
        our_identity=identity.public,
        their_identity=bundle.identity,
        base_key=base.public,
        root=root,
        our_key=our_key,
        sending=Chain(sending_key),
        receiving=(Receiving(bundle.signed_key, Chain(chain_key)),),
        hello=Hello(bundle.one_time_id, bundle.signed_id),
    )


def respond(greeting: Greeting, *, identity: KeyPair, signed: KeyPair, one_time: KeyPair | None) -> Ratchet:
    """Our side of the session that a greeting opens, before its message is opened."""
    secret = DISCONTINUITY + signed.agree(greeting.identity)
    secret += identity.agree(greeting.base_key) + signed.agree(greeting.base_key)
    if one_time is not None:
        secret += one_time.agree(greeting.base_key)
    root, chain_key = _first_keys(secret)
    return Ratchet(
        our_identity=identity.public,
        their_identity=greeting.identity,
        base_key=greeting.base_key,
        root=root,
        our_key=signed,
        sending=Chain(chain_key),
    )


def _first_keys(secret: bytes) -> tuple[bytes, bytes]:
    keys = hkdf(secret, salt=bytes(32), info=b"WhisperText", size=64)
    return keys[:32], keys[32:]
