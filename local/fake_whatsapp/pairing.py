"""A client that is not linked yet: it shows QR codes or a link code until a phone takes it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TypeVar

from local.fake_whatsapp import link_code
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.faults import FaultKind
from local.fake_whatsapp.link_code import WrongCode
from local.fake_whatsapp.phones import number_of
from local.fake_whatsapp.protocol.channel import Channel, ChannelClosed
from local.fake_whatsapp.protocol.curve import KEY_BYTES, KeyPair, hmac_sha256
from local.fake_whatsapp.protocol.node import SERVER, Node
from local.fake_whatsapp.protocol.protos import DeviceIdentity, SignedDeviceIdentity, SignedDeviceIdentityHMAC

# The first code lives 60 s, the next five 20 s each; then the client hangs up.
QR_CODES = 6
# A first pairing stores 812 pre-keys on the client, which takes some seconds on a busy machine.
CLIENT_TIMEOUT_S = 30.0
RESTART_CODE = "515"
PASSKEY_TIMEOUT_MS = 60_000
ACCOUNT_SIGNATURE_PREFIX = b"\x06\x00"

T = TypeVar("T")


class PairingRefused(Exception):
    """The phone and the client did not agree; `status` is the HTTP status that says so."""

    def __init__(self, detail: str, *, status: int) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class QrCode:
    """What a client shows: `ref` names it, the rest is what the phone needs in order to vouch for it."""

    ref: str
    identity: bytes
    adv_secret: bytes

    @classmethod
    def parse(cls, text: str) -> QrCode:
        """Read the raw text of a code, in its new form (behind `#`) or the older one; raises ValueError."""
        parts = text.strip().rpartition("#")[2].split(",")
        if len(parts) < len(("ref", "noise key", "identity key", "secret")):
            raise ValueError("a QR code has at least four parts between commas")
        try:
            identity, adv_secret = (base64.b64decode(part, validate=True) for part in parts[2:4])
        except binascii.Error as error:
            raise ValueError("the keys of a QR code are base64") from error
        if {len(identity), len(adv_secret)} != {KEY_BYTES}:
            raise ValueError("the keys of a QR code have 32 bytes")
        return cls(parts[0], identity, adv_secret)


class WaitingClient:
    """One unlinked client's connection."""

    def __init__(self, exchange: Exchange, channel: Channel) -> None:
        self._exchange = exchange
        self._channel = channel
        self.refs = [base64.b64encode(secrets.token_bytes(24)).decode() for _ in range(QR_CODES)]
        self.asked_phone: str | None = None
        self._client_ephemeral = b""
        self._link_ref = secrets.token_hex(16)
        self._finish: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._signed: asyncio.Future[None] | None = None
        self._device: Device | None = None
        self._is_linked = False

    async def run(self) -> None:
        """Show codes until the client is linked or gone; afterwards it logs in on a new connection."""
        self._exchange.waiting.add(self)
        try:
            refs = tuple(Node("ref", {}, ref.encode()) for ref in self.refs)
            await self._channel.send(_order("pair-device", Node("pair-device", {}, refs)))
            while not self._is_linked:
                await self._hear(await self._channel.receive())
            await self._channel.send(Node("stream:error", {"code": RESTART_CODE}))
            # The client hangs up by itself; a close from here could overtake its reading of the 515.
            await self._drain()
        finally:
            self._exchange.waiting.discard(self)
            for future in (self._finish, self._signed):
                if future is not None and not future.done():
                    future.set_exception(PairingRefused("the client hung up", status=409))
                    future.exception()  # mark it as seen: the phone may have given up first

    async def scan(self, code: QrCode, phone: str) -> Device:
        """The phone scanned the code; raises PairingRefused when the client does not accept the phone's word.

        A phone that wants a passkey first has the client asked for it, and links nothing.
        """
        if self._exchange.faults.stands(FaultKind.PASSKEY, phone):
            await self._channel.send(_passkey_demand())
            raise PairingRefused("the phone wants a passkey from the client before it links it", status=409)
        return await self._link(phone, identity=code.identity, adv_secret=code.adv_secret)

    async def enter_code(self, code: str, phone: str) -> Device:
        """The phone typed the code; raises PairingRefused with 422 when it is not the one shown."""
        identity = self._exchange.contacts.phone(phone).identity
        side = await asyncio.to_thread(link_code.hello, code, self._client_ephemeral, identity=identity)
        self._finish = asyncio.get_running_loop().create_future()
        await self._channel.send(self._primary_hello(side))
        wrapped_bundle, client_identity = await _within(self._finish, "the client did not finish the link code")
        try:
            adv_secret = link_code.finish(side, wrapped_bundle=wrapped_bundle, client_identity=client_identity)
        except WrongCode as error:
            raise PairingRefused(str(error), status=422) from error
        return await self._link(phone, identity=client_identity, adv_secret=adv_secret)

    async def _link(self, phone: str, *, identity: bytes, adv_secret: bytes) -> Device:
        if self._signed is not None:
            raise PairingRefused("another phone is linking this client", status=409)
        self._signed = asyncio.get_running_loop().create_future()
        exchange = self._exchange
        device = Device(phone, exchange.devices.next_number(phone), identity)
        signed = _vouch(exchange.contacts.phone(phone).identity, identity=identity, adv_secret=adv_secret)
        success = Node(
            "pair-success",
            {},
            (
                Node("device-identity", {}, signed),
                Node("device", {"jid": device.jid, "lid": device.lid}),
                Node("platform", {"name": "android"}),
            ),
        )
        self._device = device
        await self._channel.send(_order("pair-success", success))
        await _within(self._signed, "the client did not confirm the pairing")
        return device

    async def _hear(self, node: Node) -> None:
        registration = node.child("link_code_companion_reg")
        if registration is not None:
            await self._hear_link_code(node, registration)
        elif self._signed is not None and not self._signed.done() and node.attrs.get("type") == "error":
            self._signed.set_exception(PairingRefused("the client refused the phone's signature", status=409))
        elif self._signed is not None and self._device is not None and node.child("pair-device-sign"):
            await self._admit(self._device)
            self._signed.set_result(None)
        elif node.tag == "iq" and node.attrs.get("type") in ("get", "set"):
            await self._channel.send(_result(node))

    async def _admit(self, device: Device) -> None:
        """Keep the device on disk, before the client is told to log in with it."""
        before = self._exchange.live.get(device.phone)
        self._exchange.devices.link(device)
        await self._exchange.store.durable()
        self._is_linked = True
        if before is not None:
            await before.remove()

    async def _hear_link_code(self, node: Node, registration: Node) -> None:
        if registration.attrs.get("stage") == "companion_hello":
            self.asked_phone = number_of(registration.jid("jid"))
            self._client_ephemeral = registration.require("link_code_pairing_wrapped_companion_ephemeral_pub").data
            ref = Node("link_code_pairing_ref", {}, self._link_ref.encode())
            await self._channel.send(_result(node, Node("link_code_companion_reg", {}, (ref,))))
            return
        await self._channel.send(_result(node))
        if self._finish is not None and not self._finish.done():
            bundle = registration.require("link_code_pairing_wrapped_key_bundle").data
            self._finish.set_result((bundle, registration.require("companion_identity_public").data))

    def _primary_hello(self, side: link_code.PhoneSide) -> Node:
        contents = (
            Node("link_code_pairing_ref", {}, self._link_ref.encode()),
            Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, side.wrapped_ephemeral),
            Node("primary_identity_pub", {}, side.identity.public),
        )
        attrs = {"from": SERVER, "type": "link_code_companion_reg", "id": secrets.token_hex(8)}
        registration = Node("link_code_companion_reg", {"stage": "primary_hello"}, contents)
        return Node("notification", attrs | {"t": str(int(time.time()))}, (registration,))

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT_S):
                while True:
                    await self._channel.receive()
        except (ChannelClosed, TimeoutError):
            await self._channel.close()


async def scan(exchange: Exchange, *, qr: str, phone: str) -> Device:
    """Link the client that shows this code. Raises ValueError for text that is no code, PairingRefused else."""
    code = QrCode.parse(qr)
    client = next((client for client in exchange.waiting if code.ref in client.refs), None)
    if client is None:
        raise PairingRefused("no connected client shows this code: it expired, or was used", status=404)
    return await client.scan(code, phone)


async def enter_code(exchange: Exchange, *, code: str, phone: str) -> Device:
    """Link the client that shows this link code for this phone; PairingRefused when there is none."""
    client = next((client for client in exchange.waiting if client.asked_phone == phone), None)
    if client is None:
        raise PairingRefused("no connected client asked for a code for this phone", status=404)
    return await client.enter_code(re.sub(r"[\s-]", "", code).upper(), phone)


async def _within(future: asyncio.Future[T], otherwise: str) -> T:
    try:
        async with asyncio.timeout(CLIENT_TIMEOUT_S):
            return await future
    except TimeoutError as error:
        raise PairingRefused(otherwise, status=409) from error


def _vouch(account: KeyPair, *, identity: bytes, adv_secret: bytes) -> bytes:
    """The phone's signature over the client's key, and the proof that it saw the client's screen."""
    details = DeviceIdentity(rawID=1, timestamp=int(time.time()), keyIndex=1).SerializeToString()
    signature = account.sign(ACCOUNT_SIGNATURE_PREFIX + details + identity)
    signed = SignedDeviceIdentity(details=details, accountSignatureKey=account.public, accountSignature=signature)
    body = signed.SerializeToString()
    vouched: bytes = SignedDeviceIdentityHMAC(details=body, HMAC=hmac_sha256(adv_secret, body)).SerializeToString()
    return vouched


def _passkey_demand() -> Node:
    """What a browser would hand to its authenticator; the client makes new keys at once, so its codes are void."""
    options = {
        "challenge": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="),
        "timeout": PASSKEY_TIMEOUT_MS,
        "rpId": "whatsapp.com",
        "allowCredentials": [],
        "userVerification": "required",
    }
    attrs = {"from": SERVER, "type": "passkey_prologue_request", "id": secrets.token_hex(8), "t": str(int(time.time()))}
    return Node("notification", attrs, (Node("passkey_request_options", {}, json.dumps(options).encode()),))


def _order(name: str, content: Node) -> Node:
    attrs = {"from": SERVER, "type": "set", "id": name, "xmlns": "md", "t": str(int(time.time()))}
    return Node("iq", attrs, (content,))


def _result(query: Node, *contents: Node) -> Node:
    return Node("iq", {"from": SERVER, "type": "result", "id": query.attrs.get("id", "")}, contents or None)
