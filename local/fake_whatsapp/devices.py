"""The devices that phones have linked: one per phone, with the public keys that it left here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from local.fake_whatsapp.phones import LID_PREFIX
from local.fake_whatsapp.protocol.node import LID_SERVER, USER_SERVER, Jid
from local.fake_whatsapp.signal.agreement import Bundle
from local.fake_whatsapp.store import Store

SAVE = """
INSERT INTO device (phone, number, identity, signed_id, signed_key, is_linked, connects)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (phone) DO UPDATE
   SET number = ?2, identity = ?3, signed_id = ?4, signed_key = ?5, is_linked = ?6, connects = ?7
"""
LOAD = "SELECT phone, number, identity, signed_id, signed_key, is_linked, connects FROM device"
SAVE_KEY = "INSERT INTO one_time_key (phone, id, public) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET public = ?3"


@dataclass(frozen=True, slots=True)
class Device:
    """A linked device. Linking again gives the next `number` and takes the link from the one before."""

    phone: str
    number: int
    identity: bytes
    signed_id: int = 0
    signed_key: bytes = b""
    is_linked: bool = True
    connects: int = 0

    @property
    def jid(self) -> Jid:
        return Jid(f"{self.phone}:{self.number}@{USER_SERVER}")

    @property
    def lid(self) -> Jid:
        return Jid(f"{LID_PREFIX}{self.phone}:{self.number}@{LID_SERVER}")

    @property
    def has_keys(self) -> bool:
        """Whether a contact can open a session with it."""
        return bool(self.signed_key)


class Devices:
    """All linked devices by phone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._devices = {
            row[0]: Device(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in store.read(LOAD)
        }
        self._one_time: dict[str, deque[tuple[int, bytes]]] = {}
        for phone, key_id, public in store.read("SELECT phone, id, public FROM one_time_key ORDER BY phone, id"):
            self._one_time.setdefault(phone, deque()).append((key_id, public))

    def all(self) -> list[Device]:
        """Linked devices, by phone."""
        return [self._devices[phone] for phone in sorted(self._devices) if self._devices[phone].is_linked]

    def get(self, phone: str) -> Device | None:
        """The device that this phone has linked now, or None."""
        device = self._devices.get(phone)
        return device if device is not None and device.is_linked else None

    def next_number(self, phone: str) -> int:
        before = self._devices.get(phone)
        return before.number + 1 if before else 1

    def link(self, device: Device) -> None:
        """Keep a newly paired device; what the one before left here is gone."""
        self._one_time[device.phone] = deque()
        self._store.write("DELETE FROM one_time_key WHERE phone = ?", device.phone)
        self._save(device)

    def unlink(self, phone: str) -> None:
        self._save(replace(self._devices[phone], is_linked=False))

    def count_connect(self, phone: str) -> None:
        device = self._devices[phone]
        self._save(replace(device, connects=device.connects + 1))

    def add_keys(self, phone: str, *, signed: tuple[int, bytes], one_time: list[tuple[int, bytes]]) -> None:
        self._save(replace(self._devices[phone], signed_id=signed[0], signed_key=signed[1]))
        self._one_time.setdefault(phone, deque()).extend(one_time)
        for key_id, public in one_time:
            self._store.write(SAVE_KEY, phone, key_id, public)

    def one_time_keys_left(self, phone: str) -> int:
        return len(self._one_time.get(phone, ()))

    def take_bundle(self, phone: str) -> Bundle:
        """The keys for one new session: a one-time key is given to one caller only, and may have run out."""
        device = self._devices[phone]
        keys = self._one_time.get(phone)
        if not keys:
            return Bundle(device.identity, device.signed_id, device.signed_key)
        key_id, public = keys.popleft()
        self._store.write("DELETE FROM one_time_key WHERE phone = ? AND id = ?", phone, key_id)
        return Bundle(device.identity, device.signed_id, device.signed_key, key_id, public)

    def _save(self, device: Device) -> None:
        self._devices[device.phone] = device
        self._store.write(
            SAVE,
            device.phone,
            device.number,
            device.identity,
            device.signed_id,
            device.signed_key,
            int(device.is_linked),
            device.connects,
        )
