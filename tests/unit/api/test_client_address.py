"""Whose address it is: `X-Forwarded-For` from a trusted proxy is believed, from anybody else it is not."""

import ipaddress
from typing import Any

import pytest

from api.client_address import address_of, counted_as

_TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")]


def _scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    return {
        "client": None if peer is None else (peer, 4711),
        "headers": [(b"x-forwarded-for", one.encode("latin-1")) for one in forwarded],
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # A stranger may say what it likes.
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        # The client itself wrote the first; the proxy appended what it saw.
        ("10.0.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
        # Two proxies of ours.
        ("10.0.0.1", ["198.51.100.7, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:5000"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:4860::1]:5000"], "2001:4860::1"),
        ("10.0.0.1", ["2001:4860::1"], "2001:4860::1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8::1", ["203.0.113.9"], "203.0.113.9"),
        # What is no address ends the walk at the last that was one.
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["\xff\x00, ' OR 1=1--"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["10.0.0.2"] * 5000)], "10.0.0.2"),
        (None, ["203.0.113.9"], "unknown"),
        ("testclient", ["203.0.113.9"], "unknown"),
    ],
)
def test_the_address_is_the_last_that_no_proxy_of_ours_has(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert address_of(_scope(peer, *forwarded), _TRUSTED) == address


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert address_of(_scope("10.0.0.1", "203.0.113.9"), []) == "10.0.0.1"


def test_an_ipv6_client_is_counted_with_its_network() -> None:
    assert counted_as("2001:4860:1:2:3::1") == counted_as("2001:4860:1:2::ffff") != counted_as("2001:4860:1:3::1")
    assert counted_as("192.0.2.1") == "192.0.2.1"
    assert counted_as("unknown") == "unknown"
