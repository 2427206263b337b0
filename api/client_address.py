"""Whose address a request comes from, when proxies stand between: `X-Forwarded-For` is believed from trusted ones only.

A client may write that header itself. So it is read from its right end, where the nearest proxy wrote, and only while
whoever wrote is one of ZAPHUB_TRUSTED_PROXIES.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from shared.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN: Final = "unknown"  # over a unix socket nobody has an address
_MOST_HOPS: Final = 20
# One customer of an IPv6 provider has at least this many addresses, and may use a new one for each request.
_IPV6_PREFIX: Final = 64


def address_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address of the client that asked, as text; `unknown` when the server does not know its peer's."""
    peer = scope.get("client")
    address = None if peer is None else _parsed(peer[0])
    if address is None:
        return UNKNOWN
    if trusted and _is_one_of(address, trusted):
        for hop in reversed(_hops(scope)[-_MOST_HOPS:]):
            before = _parsed(hop)
            if before is None:
                break
            address = before
            if not _is_one_of(address, trusted):
                break
    return str(address)


def counted_as(address: str) -> str:
    """Under which name the requests of this address are counted: an IPv6 one with its whole /64."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address


def _hops(scope: Scope) -> list[str]:
    """Every hop that the headers name, the nearest last."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return [hop.strip() for hop in ",".join(values).split(",")]


def _parsed(text: str) -> Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1` or `[2001:db8::1]:5000`; None when there is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_one_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)
