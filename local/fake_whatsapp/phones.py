"""The phone of a number: its addresses and its keys, which follow from the number and the server's secret."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.curve import DJB_TYPE, KeyPair, hmac_sha256
from local.fake_whatsapp.protocol.node import LID_SERVER, USER_SERVER, Jid, Node
from local.fake_whatsapp.signal.conversation import Keyring

SIGNED_KEY_ID = 1
# A LID is the number behind this digit: any bijection would do, and this one is easy to read in logs.
LID_PREFIX = "9"
ONE_TIME_KEY_IDS = 1 << 24


@dataclass(frozen=True)
class Phone:
    """A number's own device (device 0). The same secret and number give the same keys after a restart."""

    number: str
    secret: bytes

    @property
    def jid(self) -> Jid:
        return phone_jid(self.number)

    @property
    def lid(self) -> Jid:
        return Jid(f"{LID_PREFIX}{self.number}@{LID_SERVER}")

    @cached_property
    def identity(self) -> KeyPair:
        return curve.from_seed(self._derive("identity"))

    @cached_property
    def keyring(self) -> Keyring:
        return Keyring(
            registration_id=int.from_bytes(self._derive("registration")[:2], "big") & 0x3FFF,
            identity=self.identity,
            signed=curve.from_seed(self._derive("signed")),
            one_time=self.one_time_key,
        )

    def one_time_key(self, key_id: int) -> KeyPair:
        return curve.from_seed(self._derive(f"one-time {key_id}"))

    def bundle(self, jid: str, *, one_time_id: int) -> Node:
        """The keys that a client fetches before its first message to this phone."""
        signed = self._key("skey", SIGNED_KEY_ID, self.keyring.signed)
        signature = self.identity.sign(DJB_TYPE + self.keyring.signed.public)
        return Node(
            "user",
            {"jid": jid},
            (
                Node("registration", {}, self.keyring.registration_id.to_bytes(4, "big")),
                Node("type", {}, DJB_TYPE),
                Node("identity", {}, self.identity.public),
                self._key("key", one_time_id, self.one_time_key(one_time_id)),
                Node("skey", {}, (*signed.children, Node("signature", {}, signature))),
            ),
        )

    def _key(self, tag: str, key_id: int, key: KeyPair) -> Node:
        return Node(tag, {}, (Node("id", {}, key_id.to_bytes(3, "big")), Node("value", {}, key.public)))

    def secret_of(self, purpose: str) -> bytes:
        """32 bytes of this phone's own, the same for the same purpose."""
        return self._derive(purpose)

    def _derive(self, purpose: str) -> bytes:
        return hmac_sha256(self.secret, f"{self.number} {purpose}".encode())


def phone_jid(number: str) -> Jid:
    return Jid(f"{number}@{USER_SERVER}")


def number_of(jid: Jid) -> str:
    """The phone number behind either address of a number."""
    return jid.user.removeprefix(LID_PREFIX) if jid.server == LID_SERVER else jid.user
