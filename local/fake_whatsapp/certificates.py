"""Who the server is: its TLS authority, its Noise keys with their certificate chain, and its master secret."""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass

import trustme

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import KeyPair
from local.fake_whatsapp.protocol.protos import CertificateChain, NoiseCertificate
from local.fake_whatsapp.store import Store, fact, keep_fact

HOSTS = ("web.whatsapp.com", "*.whatsapp.net", "*.whatsapp.com")
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Identity:
    """Made once per data folder: a client that trusted the server before a restart trusts it afterwards."""

    secret: bytes
    root: KeyPair
    intermediate: KeyPair
    static: KeyPair
    authority: trustme.CA

    @property
    def ca_pem(self) -> str:
        return self.authority.cert_pem.bytes().decode()

    def tls_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*HOSTS).configure_cert(context)
        return context

    def noise_chain(self) -> bytes:
        """Root signs intermediate, intermediate signs the key of the handshake."""
        now = int(time.time())
        validity = {"notBefore": now - DAY_S, "notAfter": now + 365 * DAY_S}
        intermediate = NoiseCertificate.Details(serial=1, issuerSerial=0, key=self.intermediate.public, **validity)
        leaf = NoiseCertificate.Details(serial=2, issuerSerial=1, key=self.static.public, **validity)
        chain: bytes = CertificateChain(
            intermediate=_signed(intermediate.SerializeToString(), self.root),
            leaf=_signed(leaf.SerializeToString(), self.intermediate),
        ).SerializeToString()
        return chain


def load_identity(store: Store) -> Identity:
    """The identity that the store keeps, made now when it has none. The caller waits for the disk."""
    secret = fact(store, "secret")
    authority_pem = fact(store, "authority")
    authority_key = fact(store, "authority_key")
    if secret is None or authority_pem is None or authority_key is None:
        secret, authority = os.urandom(32), trustme.CA(organization_name="A WhatsApp server on loopback")
        keep_fact(store, "secret", secret)
        keep_fact(store, "authority", authority.cert_pem.bytes())
        keep_fact(store, "authority_key", authority.private_key_pem.bytes())
    else:
        authority = trustme.CA.from_pem(authority_pem, authority_key)
    return Identity(
        secret=secret,
        root=_server_key(secret, "root"),
        intermediate=_server_key(secret, "intermediate"),
        static=_server_key(secret, "static"),
        authority=authority,
    )


def _server_key(secret: bytes, name: str) -> KeyPair:
    return curve.from_seed(curve.hmac_sha256(secret, f"server {name}".encode()))


def _signed(details: bytes, issuer: KeyPair) -> object:
    return NoiseCertificate(details=details, signature=issuer.sign(details))
