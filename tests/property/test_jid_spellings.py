"""One chat for all spellings of a number: the rule by which sends are ordered, and what WhatsApp is asked."""

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.jid import Jid, Server, spellings_of

DDD = st.integers(11, 99).map(str)
EIGHT = st.integers(60_000_000, 99_999_999).map(str)
PHONE = st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True)


def key(phone: str) -> str:
    return Jid(phone, Server.PERSON).chat_key


@given(DDD, EIGHT)
def test_a_brazilian_mobile_with_and_without_its_9_is_one_chat(ddd: str, number: str) -> None:
    with_9, without_9 = f"55{ddd}9{number}", f"55{ddd}{number}"

    assert key(with_9) == key(without_9) == f"{without_9}@s.whatsapp.net"
    assert spellings_of(with_9) == (with_9, without_9)
    assert spellings_of(without_9) == (without_9, with_9)


@given(DDD, st.integers(20_000_000, 59_999_999).map(str))
def test_a_landline_is_not_a_mobile_that_lost_its_9(ddd: str, number: str) -> None:
    landline, mobile = f"55{ddd}{number}", f"55{ddd}9{number}"

    assert spellings_of(landline) == (landline,)
    assert spellings_of(mobile) == (mobile,)
    assert key(landline) != key(mobile)


@given(PHONE)
def test_spellings_name_each_other_have_one_key_and_begin_with_what_was_written(phone: str) -> None:
    spellings = spellings_of(phone)

    assert spellings[0] == phone
    assert all(set(spellings_of(one)) == set(spellings) for one in spellings)
    assert {key(one) for one in spellings} == {key(phone)}


@given(PHONE, PHONE)
def test_numbers_that_are_not_spellings_of_each_other_have_keys_of_their_own(one: str, other: str) -> None:
    assert (key(one) == key(other)) == (other in spellings_of(one))
