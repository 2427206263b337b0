"""Phone numbers and JIDs: what users write, parsed into the one spelling that everything else relies on.

A person is `5511987654321@s.whatsapp.net`, an alias of a person `123456789@lid`, a group `120363012345678901@g.us`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.domain.errors import InvalidInput

# E.164 allows 15 digits with the country code, which never starts with 0; the shortest numbers in use have 7.
_PHONE: Final = re.compile(r"[1-9][0-9]{6,14}")
_PUNCTUATION: Final = re.compile(r"[ ().\-]")
_LID: Final = re.compile(r"[1-9][0-9]{0,19}")
# New groups are one number, old ones the creator's phone and a time.
_GROUP: Final = re.compile(r"[1-9][0-9]{9,24}|[1-9][0-9]{6,14}-[0-9]{9,11}")
# A device of a person, "5511…:7" or "5511….0:7", is still that person.
_DEVICE: Final = re.compile(r"(?:\.[0-9]{1,3})?(?::[0-9]{1,5})?$")
_MAX_CHARACTERS: Final = 128
# Countries that put a digit between country code and number for mobiles, which WhatsApp's own JIDs leave out for some.
# In Brazil only numbers from 6 on had mobiles before the digit came: with a 9 before any other it is the only spelling,
# and without one it is a landline's.
_MOBILE_DIGITS: Final = (
    ("9", re.compile(r"(?P<country>55[1-9][0-9])(?P<digit>9?)(?P<number>[6-9][0-9]{7})")),  # Brazil
    ("1", re.compile(r"(?P<country>52)(?P<digit>1?)(?P<number>[1-9][0-9]{9})")),  # Mexico
    ("9", re.compile(r"(?P<country>54)(?P<digit>9?)(?P<number>[1-9][0-9]{9})")),  # Argentina
)


class Server(StrEnum):
    """What stands after the @."""

    PERSON = "s.whatsapp.net"
    ALIAS = "lid"
    GROUP = "g.us"


@dataclass(frozen=True, slots=True)
class Jid:
    """A chat in its canonical spelling, without a device; `str()` gives the text."""

    user: str
    server: Server

    def __str__(self) -> str:
        return f"{self.user}@{self.server}"

    @property
    def phone(self) -> str | None:
        """The digits with country code, None for an alias or a group."""
        return self.user if self.server is Server.PERSON else None

    @property
    def redacted(self) -> str:
        """For logs: enough to tell two chats apart, not enough to call anybody."""
        return f"…{self.user[-4:]}@{self.server}"

    @property
    def chat_key(self) -> str:
        """One key for all spellings of a number, with or without the mobile digit of Brazil, Mexico and Argentina.

        "5511987654321" and "551187654321" give "551187654321@s.whatsapp.net". It orders; nothing is sent to it.
        """
        user = min(spellings_of(self.user), key=len) if self.server is Server.PERSON else self.user
        return f"{user}@{self.server}"


@dataclass(frozen=True, slots=True)
class Person:
    """Who has a number: `jid` names it as it is registered, or is the `lid` where that is all that is known."""

    jid: str
    lid: str | None = None


def spellings_of(phone: str) -> tuple[str, ...]:
    """The number as it is written, then its second spelling where there is one: which is right only WhatsApp knows.

    "5511987654321" gives itself and "551187654321", and the other way round; "15550001111" only itself.
    """
    for digit, pattern in _MOBILE_DIGITS:
        if match := pattern.fullmatch(phone):
            other = "" if match["digit"] else digit
            return phone, f"{match['country']}{other}{match['number']}"
    return (phone,)


def parse_phone(text: str, *, pointer: str = "") -> str:
    """Digits with country code out of "5511987654321", "+55 11 98765-4321" or a person's JID.

    Raises InvalidInput at `pointer`.
    """
    if "@" in text:
        phone = parse_jid(text, pointer=pointer).phone
        if phone is None:
            raise InvalidInput(
                "This JID is not a person's; give a phone number with its country code.", pointer=pointer
            )
        return phone
    digits = _PUNCTUATION.sub("", text.removeprefix("+")) if len(text) <= _MAX_CHARACTERS else ""
    if not _PHONE.fullmatch(digits):
        raise InvalidInput(
            "Write the phone number as 7 to 15 digits with its country code, such as 5511987654321.", pointer=pointer
        )
    return digits


def parse_jid(text: str, *, pointer: str = "") -> Jid:
    """The chat that a phone number or a JID names. Raises InvalidInput at `pointer`."""
    if "@" not in text:
        return Jid(parse_phone(text, pointer=pointer), Server.PERSON)
    user, _, server = text.partition("@")
    if len(text) <= _MAX_CHARACTERS:
        match server:
            case "s.whatsapp.net" | "c.us" if _PHONE.fullmatch(person := _DEVICE.sub("", user)):
                return Jid(person, Server.PERSON)
            case "lid" if _LID.fullmatch(alias := _DEVICE.sub("", user)):
                return Jid(alias, Server.ALIAS)
            case "g.us" if _GROUP.fullmatch(user):
                return Jid(user, Server.GROUP)
            case _:
                pass
    raise InvalidInput(
        "This is no JID that can be written to. Use <digits>@s.whatsapp.net, <id>@lid or <id>@g.us.", pointer=pointer
    )
