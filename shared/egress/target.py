"""The target rule: which URLs ZapHub may call for a tenant, and which addresses it may connect to for them.

Deny by default. `ipaddress.is_global` alone is no guard: it is true for 6to4, NAT64, multicast and a cloud's own
addresses, and it changes between versions of Python. Names are judged by the addresses that the connecting resolver
gives, so every spelling of an address (`2130706433`, `0x7f.1`, `127。0。0。1`) is caught without knowing it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

import httpx

from shared.domain.errors import InvalidInput
from shared.egress.resolver import Address, resolve

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]  # raises OSError when the name has no address

CODE: Final = "WEBHOOK_TARGET_FORBIDDEN"
_MAX_LENGTH: Final = 2048
_MAX_PORT: Final = 65_535
_DOOR_TIMEOUT_S: Final = 5.0  # somebody waits for the answer
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_NAME: Final = 253
_NAME: Final = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# The Fetch standard's "bad ports": mail, chat, file and name servers might take the body's lines for commands.
_NO_WEB_PORTS: Final = frozenset(
    [
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104),
        *(109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515),
        *(526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049),
        *(3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    ]
)

_PUBLIC_V6: Final = IPv6Network("2000::/3")
# Inside the public ranges, yet not a place on the internet, or a way back in through a gateway.
_NOT_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; older Pythons call most of it global
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's own address inside every virtual machine
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: holds an IPv4 address
        "3fff::/20",  # documentation
    )
)
# Names that only exist inside. They are refused even while nothing here can resolve them.
_INSIDE_NAMES: Final = ("localhost", "local", "internal", "home.arpa")


class TargetForbidden(Exception):
    """The name has an address that the rule forbids. Never leaves shared.webhooks."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that passed the door. Only `Rule.check` makes one, so that no URL is stored unchecked."""

    url: str


def is_public(address: Address) -> bool:
    """Whether the address is a place on the public internet; anything that is not surely one is not."""
    address = _unmapped(address)
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not any(address.version == network.version and address in network for network in _NOT_PUBLIC)
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule with this operator's exceptions: `allow` is ZAPHUB_WEBHOOK_ALLOW_NETWORKS, which no tenant can set."""

    allow: tuple[Network, ...] = ()
    resolve: Resolve = resolve
    door_timeout_s: float = _DOOR_TIMEOUT_S

    async def check(self, url: str, *, pointer: str = "/webhook_url") -> Target:
        """Judge a URL at the door. Raises InvalidInput with the code WEBHOOK_TARGET_FORBIDDEN.

        A public name that does not resolve now, within `door_timeout_s`, is let in: the delivery judges again when it
        connects, and a DNS server that is away must not refuse a customer's settings.
        """
        parsed = parse(url, pointer=pointer)
        try:
            async with asyncio.timeout(self.door_timeout_s):
                await self.addresses(parsed.raw_host.decode("ascii"), port_of(parsed))
        except TargetForbidden:
            raise _refused(
                "the URL's host is not on the public internet. If it is a service of yours, whoever runs ZapHub allows "
                "its network with ZAPHUB_WEBHOOK_ALLOW_NETWORKS.",
                pointer,
            ) from None
        except (OSError, UnicodeError):
            if is_inside_name(parsed.raw_host.decode("ascii")):
                raise _refused(
                    "the URL's host does not resolve and only exists inside a network. When it resolves, "
                    "ZAPHUB_WEBHOOK_ALLOW_NETWORKS can allow its network.",
                    pointer,
                ) from None
        return Target(url)

    async def addresses(self, host: str, port: int) -> Sequence[Address]:
        """Resolve once and return all addresses. Raises TargetForbidden when any is forbidden, OSError when none is."""
        found = await self.resolve(host, port)
        if not found:
            raise OSError("the name has no address")
        if not all(self.permits(address) for address in found):
            raise TargetForbidden
        return found

    def permits(self, address: Address) -> bool:
        """Whether we may connect to this address."""
        plain = _unmapped(address)
        return is_public(plain) or any(plain.version == network.version and plain in network for network in self.allow)


def parse(url: str, *, pointer: str = "") -> httpx.URL:
    """Read a URL with the parser that also sends it. Raises InvalidInput for what is no target, whatever its host."""
    if len(url) > _MAX_LENGTH:
        raise _refused(f"a URL has at most {_MAX_LENGTH} characters.", pointer)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise _refused("this is not a URL; write it as https://example.com/hook.", pointer) from None
    # Never `.host`: it decodes, and raises for a label that only looks like punycode.
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.raw_host:
        raise _refused("a URL starts with https:// or http:// and a host.", pointer)
    # `https://example.com@10.0.0.1/` reads as one host and goes to another.
    if parsed.userinfo or "@" in _authority(url):
        raise _refused("a URL holds no user or password; send them in a header.", pointer)
    if "#" in url:
        raise _refused("a URL holds no fragment (#…).", pointer)
    if not _is_host(parsed.raw_host.decode("ascii")):
        raise _refused("a URL's host is a name of letters, digits, hyphens and dots, or an address.", pointer)
    if not 1 <= port_of(parsed) <= _MAX_PORT:
        raise _refused(f"a port is from 1 to {_MAX_PORT}.", pointer)
    if port_of(parsed) in _NO_WEB_PORTS:
        raise _refused("this port belongs to another protocol than HTTP; use one that browsers open too.", pointer)
    return parsed


def _is_host(host: str) -> bool:
    """Whether it is a name or an address as it goes on the wire: no escape, no zone, no empty label."""
    if ":" not in host:
        return len(host) <= _MAX_NAME and _NAME.fullmatch(host) is not None
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _authority(url: str) -> str:
    """What stands between `//` and the next `/`, `?` or `#`, as it was written: httpx drops an empty user."""
    return re.split(r"[/?#\\]", url.partition("//")[2], maxsplit=1)[0]


def port_of(url: httpx.URL) -> int:
    return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _unmapped(address: Address) -> Address:
    """The IPv4 address inside `::ffff:a.b.c.d`, which is where such a socket goes."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def is_inside_name(host: str) -> bool:
    name = host.rstrip(".").lower()
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return True  # an address that the resolver does not read, such as `127.0.0.1.`
    return "." not in name or any(name == inside or name.endswith(f".{inside}") for inside in _INSIDE_NAMES)


def _refused(detail: str, pointer: str) -> InvalidInput:
    return InvalidInput(detail, pointer=pointer, code=CODE)
