"""The people on the other side: who is on WhatsApp, and which receipts they send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from local.fake_whatsapp.phones import Phone
from local.fake_whatsapp.store import Store
from shared.domain.jid import spellings_of

SAVE = """
INSERT INTO contact (phone, name, on_whatsapp, auto_receipts, receipt_delay_ms, addressing, spellings)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (phone) DO UPDATE
   SET name = ?2, on_whatsapp = ?3, auto_receipts = ?4, receipt_delay_ms = ?5, addressing = ?6, spellings = ?7
"""
LOAD = "SELECT phone, name, on_whatsapp, auto_receipts, receipt_delay_ms, addressing, spellings FROM contact"
# How stanzas name a contact: by its number, by its alias with the number beside it, or by the alias alone.
Addressing = Literal["pn", "lid", "lid_only"]


@dataclass(frozen=True, slots=True)
class Contact:
    """A number that sessions write to. `auto_receipts` are sent in that order, `receipt_delay_ms` apart.

    `phone` is the number as it is registered; `spellings` are others by which WhatsApp finds it when it is asked,
    and which nobody can write to: an old Brazilian number with a 9 that it never had.
    """

    phone: str
    name: str = ""
    on_whatsapp: bool = True
    auto_receipts: tuple[str, ...] = ("delivered",)
    receipt_delay_ms: int = 0
    addressing: Addressing = "pn"
    spellings: tuple[str, ...] = ()


class Contacts:
    """All contacts by number; an unknown number is a contact that sends `delivered`."""

    def __init__(self, store: Store, *, secret: bytes) -> None:
        self._store = store
        self._secret = secret
        self._phones: dict[str, Phone] = {}
        self._contacts = {
            phone: Contact(
                phone,
                name,
                bool(on_whatsapp),
                tuple(json.loads(receipts)),
                delay_ms,
                addressing,
                tuple(json.loads(spellings)),
            )
            for phone, name, on_whatsapp, receipts, delay_ms, addressing, spellings in store.read(LOAD)
        }

        self._spelled = {spelling: one.phone for one in self._contacts.values() for spelling in one.spellings}

    def get(self, phone: str) -> Contact:
        """Whoever has this number. Of a number that was told of in another spelling, nobody has this one."""
        if (known := self._contacts.get(phone)) is not None:
            return known
        is_taken = phone in self._spelled or any(one in self._contacts for one in spellings_of(phone))
        return Contact(phone, on_whatsapp=not is_taken)

    def found(self, number: str) -> Contact:
        """Whom WhatsApp finds when it is asked about this number, in any of its spellings."""
        return self.get(self._spelled.get(number, number))

    def put(self, contact: Contact) -> None:
        """Keep the contact, in place of what was known of its number."""
        self._contacts[contact.phone] = contact
        self._spelled.update(dict.fromkeys(contact.spellings, contact.phone))
        self._store.write(
            SAVE,
            contact.phone,
            contact.name,
            int(contact.on_whatsapp),
            json.dumps(contact.auto_receipts),
            contact.receipt_delay_ms,
            contact.addressing,
            json.dumps(contact.spellings),
        )

    def phone(self, number: str) -> Phone:
        """The phone of any number, a session's own included."""
        if number not in self._phones:
            self._phones[number] = Phone(number, self._secret)
        return self._phones[number]
