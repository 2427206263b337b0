"""Phone numbers and JIDs: every spelling of a chat becomes one, and what is none is refused."""

import pytest

from shared.domain.errors import InvalidInput
from shared.domain.jid import Server, parse_jid, parse_phone


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("5511987654321", "5511987654321@s.whatsapp.net"),
        ("+55 (11) 98765-4321", "5511987654321@s.whatsapp.net"),
        ("+1 650.555.0100", "16505550100@s.whatsapp.net"),
        ("5511987654321@s.whatsapp.net", "5511987654321@s.whatsapp.net"),
        ("5511987654321@c.us", "5511987654321@s.whatsapp.net"),
        ("5511987654321:7@s.whatsapp.net", "5511987654321@s.whatsapp.net"),
        ("5511987654321.0:7@s.whatsapp.net", "5511987654321@s.whatsapp.net"),
        ("123456789012345@lid", "123456789012345@lid"),
        ("123456789012345:12@lid", "123456789012345@lid"),
        ("120363012345678901@g.us", "120363012345678901@g.us"),
        ("5511987654321-1543922342@g.us", "5511987654321-1543922342@g.us"),
    ],
)
def test_every_spelling_of_a_chat_becomes_one(written: str, canonical: str) -> None:
    assert str(parse_jid(written)) == canonical


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "+", "abc", "123456", "0511987654321", "1" * 16, "+-+55119876", "٥٥١١٩٨٧٦٥٤٣٢١", "5511987654321\n"),
        *("5511987654321\x00", "5511 987x4321", "55119876543210000", "@", "@s.whatsapp.net", "abc@s.whatsapp.net"),
        *("5511987654321@", "5511987654321@example.com", "5511987654321@s.whatsapp.net@g.us", "x@lid", "12@g.us"),
        *("status@broadcast", "12345@newsletter", "5511987654321@S.WHATSAPP.NET", "1" * 500, "1" * 500 + "@lid"),
    ],
)
def test_what_is_no_chat_is_refused_at_its_place(written: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_jid(written, pointer="/to")

    assert caught.value.pointer == "/to"
    assert caught.value.public_code == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5511987654321", "551187654321"),  # Brazil, with and without the ninth digit
        ("5215512345678", "525512345678"),  # Mexico
        ("5491123456789", "541123456789"),  # Argentina
    ],
)
def test_the_spellings_of_a_number_share_a_chat_key(one: str, other: str) -> None:
    assert parse_jid(one).chat_key == parse_jid(other).chat_key


def test_a_landline_keeps_all_its_digits_in_its_chat_key() -> None:
    assert parse_jid("551133334444").chat_key == "551133334444@s.whatsapp.net"
    assert parse_jid("5521933334444").chat_key == "5521933334444@s.whatsapp.net"


def test_only_a_person_has_a_phone() -> None:
    assert parse_jid("5511987654321").phone == "5511987654321"
    assert parse_jid("123@lid").phone is None
    assert parse_jid("120363012345678901@g.us").server is Server.GROUP
    assert parse_phone("5511987654321:3@s.whatsapp.net") == "5511987654321"
    with pytest.raises(InvalidInput):
        parse_phone("123@lid")


def test_a_redacted_jid_shows_four_digits() -> None:
    assert parse_jid("5511987654321").redacted == "…4321@s.whatsapp.net"
