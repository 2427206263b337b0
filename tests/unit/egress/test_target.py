"""The target rule: every address and every spelling that must not be reached, and the few that may."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from shared.domain.errors import InvalidInput
from shared.egress.resolver import Address, resolve
from shared.egress.target import Rule, TargetForbidden, is_public, parse

# Of these, `ipaddress.is_global` alone lets 15 through.
INSIDE = [
    *["0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3", "169.254.169.254"],
    *["172.16.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.3", "192.168.1.1", "198.18.0.1", "198.51.100.1"],
    *["203.0.113.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "168.63.129.16"],
    *["::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1"],
    *["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "100::1", "2001::1", "2001:db8::1"],
    *["2002:7f00:1::1", "2002:a9fe:a9fe::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"],
    *["fe80::1%eth0", "fec0::1", "ff02::1"],
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"]

# Each reaches loopback or a cloud's metadata through the resolver of libc.
SPELLINGS = [
    *["http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/", "http://127.1/"],
    *["http://127.0.1/", "http://0/", "http://127。0。0。1/", "http://localhost/", "http://LOCALHOST:8080/"],
    *["http://[::1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::ffff:a9fe:a9fe]/"],
    *[
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://169.254.43518/",
        "https://10.0.0.1:8443/x",
    ],
]
NO_TARGETS = [
    *["", "x", "example.com", "//example.com/", "http:example.com", "http:///x", " http://example.com"],
    *[
        "gopher://127.0.0.1:6379/_",
        "file:///etc/passwd",
        "ftp://example.com/",
        "javascript:alert(1)",
        "data:text/html,x",
    ],
    *["http://user@example.com/", "http://user:password@example.com/", "https://@example.com/"],
    *[r"http://evil.com\@127.0.0.1/", "http://evil.com:80@127.0.0.1:6379/", "http://example.com#@127.0.0.1/"],
    *["http://example.com/#", "http://example.com/x#fragment", "http://example.com:0/", "http://example.com:65536/"],
    *["http://example.com:-1/", "http://0177.0.0.1/", "http://00.00.00.00/", "http://①②⑦.0.0.1/"],
    *[
        "http://[fe80::1%25lo]/",
        "http://[::1%lo]/",
        "http://[",
        "http://a%2eb/",
        "http://ex%41mple.com/",
        "http://a b/",
    ],
    *[
        "http://a..b/",
        "http://.a/",
        "http://-a.example/",
        "http://" + "a" * 64 + ".com/",
        "http://a,b/",
        "http://$(x)/",
    ],
    *[
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://ex\u00adample.com/",
        "http://example.com:25/",
        "https://a.example:6667",
    ],
    *["http://example.com/\r\nHost: x", "http://example.com/\0", "http://[::1", "https://example.com/" + "a" * 2048],
]


def resolving(*addresses: str) -> "Resolved":
    return Resolved([ip_address(address) for address in addresses])


class Resolved:
    """A resolver that gives every name the same addresses, none: the name is unknown."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        if not self._addresses:
            raise OSError("unknown")
        return self._addresses


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_is_not_surely_on_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("url", SPELLINGS)
async def test_every_spelling_of_an_inside_address_is_refused_by_its_resolved_address(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await Rule(resolve=resolve).check(url)

    assert refused.value.public_code == "WEBHOOK_TARGET_FORBIDDEN"
    assert refused.value.pointer == "/webhook_url"
    assert "ZAPHUB_WEBHOOK_ALLOW_NETWORKS" in refused.value.detail
    assert "127" not in refused.value.detail


@pytest.mark.parametrize("url", NO_TARGETS)
async def test_what_is_no_target_is_refused_whatever_its_host_is(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await Rule(resolve=resolving("8.8.8.8")).check(url, pointer="/url")

    assert refused.value.public_code == "WEBHOOK_TARGET_FORBIDDEN"
    assert refused.value.pointer == "/url"


@pytest.mark.parametrize(
    "url",
    [
        *[
            "https://example.com",
            "http://example.com:8080/a?b=c@d",
            "HTTPS://Example.com./ü",
            "https://bücher.example/x",
        ],
        *[
            "http://a_b.example:5678/",
            "https://xn--bcher-kva.example",
            "http://8.8.8.8/",
            "http://[2606:4700::1111]:443/",
        ],
    ],
)
async def test_a_public_target_is_stored_as_it_was_written(url: str) -> None:
    target = await Rule(resolve=resolving("8.8.8.8", "2606:4700::1111")).check(url)

    assert target.url == url


async def test_one_forbidden_address_among_public_ones_refuses_the_name() -> None:
    rule = Rule(resolve=resolving("8.8.8.8", "10.0.0.1"))

    with pytest.raises(TargetForbidden):
        await rule.addresses("example.com", 443)


async def test_the_operator_allows_a_network_and_no_other() -> None:
    rule = Rule(allow=(ip_network("127.0.0.0/8"), ip_network("fd00::/8")), resolve=resolve)

    await rule.check("http://127.0.0.1:8080/hook")
    await rule.check("http://[::ffff:7f00:1]/")
    await rule.check("http://[fd00::1]/")

    for url in ("http://10.0.0.1/", "http://0/", "http://[::1]/", "http://169.254.169.254/"):
        with pytest.raises(InvalidInput):
            await rule.check(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.", "metadata.google.internal", "printer.local", "nas", "nas.", "x.home.arpa", "a.localhost"]
)
async def test_a_name_that_only_exists_inside_is_refused_even_while_it_does_not_resolve(host: str) -> None:
    with pytest.raises(InvalidInput):
        await Rule(resolve=resolving()).check(f"http://{host}/")


async def test_a_public_name_that_does_not_resolve_now_is_let_in_and_judged_when_it_connects() -> None:
    rule = Rule(resolve=resolving())

    await rule.check("https://example.com/hook")

    with pytest.raises(OSError, match="unknown"):
        await rule.addresses("example.com", 443)


async def test_a_name_server_that_does_not_answer_holds_nobody_up_at_the_door() -> None:
    async def hang(_host: str, _port: int) -> Sequence[Address]:
        return await asyncio.Future()

    rule = Rule(resolve=hang, door_timeout_s=0.01)

    await rule.check("https://example.com/hook")
    with pytest.raises(InvalidInput):
        await rule.check("https://printer.local/")


def test_the_longest_url_is_2048_characters() -> None:
    start = "https://example.com/"

    parse(start + "a" * (2048 - len(start)))

    with pytest.raises(InvalidInput):
        parse(start + "a" * (2049 - len(start)))
