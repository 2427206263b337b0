"""Whatever is given, nothing inside is reached and nothing breaks the parsers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InvalidInput
from shared.egress.resolver import Address
from shared.egress.target import Rule, is_public, parse
from shared.webhooks.client import Answered
from shared.webhooks.verdict import parse_retry_after, retry_in_s

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSIDE_V4 = ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"]
INSIDE_V4 += ["192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"]
OUTSIDE_2000 = st.integers(0, 2**128 - 1).filter(lambda number: number >> 125 != 1)


@st.composite
def inside_v4(draw: st.DrawFn) -> IPv4Address:
    network = ip_network(draw(st.sampled_from(INSIDE_V4)))
    return IPv4Address(int(network.network_address) + draw(st.integers(0, network.num_addresses - 1)))


@given(inside_v4())
def test_no_inside_ipv4_address_is_public_in_any_ipv6_dress(address: IPv4Address) -> None:
    number = int(address)
    dressed = [
        IPv6Address(number),  # ::a.b.c.d
        IPv6Address((0xFFFF << 32) + number),  # ::ffff:a.b.c.d
        IPv6Address((0xFFFF << 48) + number),  # ::ffff:0:a.b.c.d
        IPv6Address((0x64FF9B << 96) + number),  # NAT64
        IPv6Address((0x2002 << 112) + (number << 80)),  # 6to4
    ]

    assert not is_public(address)
    assert not any(is_public(one) for one in dressed)


@given(OUTSIDE_2000)
def test_no_ipv6_address_outside_of_2000_is_public_unless_it_holds_a_public_ipv4(number: int) -> None:
    address = IPv6Address(number)

    assert is_public(address) == (address.ipv4_mapped is not None and is_public(address.ipv4_mapped))


@given(st.text(max_size=80) | st.builds("http://{}/".format, st.text(max_size=40)))
def test_the_parser_takes_a_url_with_a_host_or_refuses_it(url: str) -> None:
    try:
        parsed = parse(url)
    except InvalidInput:
        return

    assert parsed.scheme in {"http", "https"}
    assert parsed.raw_host
    assert not parsed.userinfo
    assert not parsed.fragment


@given(st.lists(st.sampled_from(["8.8.8.8", "1.1.1.1", "10.0.0.1", "::1", "2606:4700::1111"]), min_size=1))
def test_a_name_is_permitted_only_when_all_its_addresses_are(addresses: list[str]) -> None:
    found = [ip_address(address) for address in addresses]
    rule = Rule(resolve=_unused)

    assert all(rule.permits(address) for address in found) == {"10.0.0.1", "::1"}.isdisjoint(addresses)


@given(st.text(max_size=40), st.floats(1, 100_000), st.floats(0.8, 1.2))
def test_a_receiver_can_neither_hurry_nor_stall_the_schedule(asked: str, base_s: float, jitter: float) -> None:
    answer = Answered(status=503, retry_after=asked, body=b"", duration_ms=1)

    wait_s = retry_in_s(base_s, answer, now=NOW, jitter=jitter)

    assert base_s * 0.8 <= wait_s <= max(base_s * 2, 3600)
    assert (parse_retry_after(asked, now=NOW) or 0) >= 0


async def _unused(_host: str, _port: int) -> Sequence[Address]:
    raise AssertionError
