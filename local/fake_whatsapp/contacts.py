"""The people on the other side: who is on WhatsApp, and which receipts they send."""

from __future__ import annotations

import json
from dataclasses import dataclass

from local.fake_whatsapp.phones import Phone
from local.fake_whatsapp.store import Store

SAVE = """
INSERT INTO contact (phone, name, on_whatsapp, auto_receipts, receipt_delay_ms) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (phone) DO UPDATE
   SET name = ?2, on_whatsapp = ?3, auto_receipts = ?4, receipt_delay_ms = ?5
"""


@dataclass(frozen=True, slots=True)
class Contact:
    """A number that sessions write to. `auto_receipts` are sent in that order, `receipt_delay_ms` apart."""

    phone: str
    name: str = ""
    on_whatsapp: bool = True
    auto_receipts: tuple[str, ...] = ("delivered",)
    receipt_delay_ms: int = 0


class Contacts:
    """All contacts by number; an unknown number is a contact that sends `delivered`."""

    def __init__(self, store: Store, *, secret: bytes) -> None:
        self._store = store
        self._secret = secret
        self._phones: dict[str, Phone] = {}
        query = "SELECT phone, name, on_whatsapp, auto_receipts, receipt_delay_ms FROM contact"
        self._contacts = {
            phone: Contact(phone, name, bool(on_whatsapp), tuple(json.loads(receipts)), delay_ms)
            for phone, name, on_whatsapp, receipts, delay_ms in store.read(query)
        }

    def get(self, phone: str) -> Contact:
        return self._contacts.get(phone) or Contact(phone)

    def put(self, contact: Contact) -> None:
        """Keep the contact, in place of what was known of its number."""
        self._contacts[contact.phone] = contact
        receipts = json.dumps(contact.auto_receipts)
        self._store.write(
            SAVE, contact.phone, contact.name, int(contact.on_whatsapp), receipts, contact.receipt_delay_ms
        )

    def phone(self, number: str) -> Phone:
        """The phone of any number, a session's own included."""
        if number not in self._phones:
            self._phones[number] = Phone(number, self._secret)
        return self._phones[number]
