"""Whatever is given, nothing inside is reached and nothing breaks the parsers."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpcore
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidInput
from shared.egress.resolver import Address
from shared.egress.target import Rule, is_public, parse
from shared.webhooks.client import Exchanged, Failed, FailureKind, SafeClient

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


def spelled(number: int, parts: int, bases: list[str]) -> str:
    """An IPv4 address as `inet_aton` reads it: 1 to 4 numbers, decimal, octal or hexadecimal, the last one wide."""
    wide = 8 * (5 - parts)
    heads = [(number >> (24 - 8 * place)) & 0xFF for place in range(parts - 1)]
    numbers = [*heads, number & ((1 << wide) - 1)]
    forms = {"d": str, "o": "0{:o}".format, "x": "0x{:x}".format, "X": "0X{:X}".format}
    return ".".join(forms[base](one) for base, one in zip(bases, numbers, strict=False))


@given(
    inside_v4() | st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(1, 4),
    st.lists(st.sampled_from("doxX"), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_every_spelling_of_an_ipv4_address_is_judged_as_the_address(
    address: IPv4Address, parts: int, bases: list[str]
) -> None:
    host = spelled(int(address), parts, bases)

    assert is_let_in(f"http://{host}/") in {is_public(address), False}
    if not is_public(address):
        assert not is_let_in(f"http://{host}/")


@given(st.integers(0, 2**128 - 1) | inside_v4().map(lambda one: (0xFFFF << 32) + int(one)))
@settings(deadline=None)
def test_every_spelling_of_an_ipv6_address_is_judged_as_the_address(number: int) -> None:
    address = IPv6Address(number)
    spellings = {address.compressed, address.exploded, address.exploded.upper()}
    if address.ipv4_mapped:
        spellings.add(f"::ffff:{address.ipv4_mapped}")

    assert {is_let_in(f"http://[{one}]/") for one in spellings} == {is_public(address)}


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_that_the_standard_library_calls_special_is_public(address: Address) -> None:
    plain = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
    is_special = plain.is_private or plain.is_loopback or plain.is_link_local or plain.is_multicast or plain.is_reserved

    assert not (is_public(address) and (is_special or plain.is_unspecified))


@given(
    st.text(max_size=80)
    | st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https", "HTTP"]),
        st.from_regex(r"[a-zA-Z0-9.@:\\\[\]%_-]{1,30}", fullmatch=True),
        st.text(max_size=20),
    )
)
@settings(deadline=None)
def test_a_url_that_is_taken_is_resolved_and_called_by_the_host_and_port_that_were_judged(url: str) -> None:
    asked: list[tuple[str, int]] = []
    dialled: list[tuple[str, int]] = []

    async def public(host: str, port: int) -> Sequence[Address]:
        asked.append((host, port))
        return [ip_address("8.8.8.8")]

    class Wire(httpcore.AsyncMockBackend):
        async def connect_tcp(self, host: str, port: int, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            dialled.append((host, port))
            raise httpcore.ConnectError

    async def run() -> Exchanged:
        rule = Rule(resolve=public)
        await rule.check(url)
        async with SafeClient(rule, timeout_s=5, backend=Wire([])) as client:
            return await client.post(url, headers={}, body=b"{}")

    try:
        exchanged = asyncio.run(run())
    except InvalidInput:
        assert asked == []
        return

    assert isinstance(exchanged, Failed)
    assert exchanged.kind is FailureKind.UNREACHABLE
    [judged, called] = asked
    assert judged == called
    assert dialled == [("8.8.8.8", called[1])]


def is_let_in(url: str) -> bool:
    try:
        asyncio.run(Rule().check(url))
    except InvalidInput:
        return False
    return True


async def _unused(_host: str, _port: int) -> Sequence[Address]:
    raise AssertionError
