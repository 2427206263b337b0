"""A proxy is judged when it is set and whenever it is dialled, and dialled by the address that was judged."""

import os
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.domain.connection_config import parse_proxy
from shared.domain.errors import InvalidInput, Misconfigured
from shared.egress import proxy
from shared.egress.resolver import Address
from shared.egress.target import Rule, TargetForbidden
from shared.sealing import Sealer

PUBLIC, INSIDE = "93.184.216.34", "10.0.0.7"


def _rule(*answers: str, allow: Sequence[str] = ()) -> Rule:
    """A name server that gives one answer after the other."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[Address]:
        if not left:
            raise OSError("no such name")
        return [ip_address(left.pop(0))]

    return Rule(allow=tuple(ip_network(one) for one in allow), resolve=resolve)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_address_that_was_judged_is_dialled_with_the_login(scheme: str) -> None:
    dialled = await proxy.dialled(_rule(PUBLIC), parse_proxy(f"{scheme}://u:p%40@proxy.example.com:3128"))

    assert dialled.url() == f"{scheme}://u:p%40@{PUBLIC}:3128"


async def test_behind_tls_the_name_stays_as_its_certificate_must_show_it() -> None:
    dialled = await proxy.dialled(_rule(PUBLIC), parse_proxy("https://proxy.example.com"))

    assert dialled.url() == "https://proxy.example.com:443"


async def test_a_name_that_leads_inside_later_is_not_dialled() -> None:
    rule, address = _rule(PUBLIC, INSIDE), parse_proxy("http://proxy.example.com:3128")
    await proxy.check(rule, address, pointer="/config/proxy")

    with pytest.raises(TargetForbidden):
        await proxy.dialled(rule, address)


async def test_an_inside_proxy_is_refused_unless_the_operator_allows_its_network() -> None:
    address = parse_proxy("http://proxy.example.com:3128")

    with pytest.raises(InvalidInput) as refused:
        await proxy.check(_rule(INSIDE), address, pointer="/config/proxy")
    await proxy.check(_rule(INSIDE, allow=["10.0.0.0/8"]), address, pointer="/config/proxy")

    assert (refused.value.public_code, refused.value.pointer) == ("PROXY_FORBIDDEN", "/config/proxy")


async def test_a_public_name_that_does_not_resolve_now_is_let_in_and_an_inside_name_is_not() -> None:
    await proxy.check(_rule(), parse_proxy("http://proxy.example.com"), pointer="")

    with pytest.raises(InvalidInput):
        await proxy.check(_rule(), parse_proxy("http://proxy.internal"), pointer="")


def test_a_sealed_proxy_opens_for_its_own_connection_only() -> None:
    sealer, connection = Sealer(SecretStr(os.urandom(8).hex())), uuid4()
    address = parse_proxy("socks5://u:p@proxy.example.com")

    sealed = proxy.seal(sealer, connection, address)

    assert proxy.opened(sealer, connection, sealed) == address.url()
    with pytest.raises(Misconfigured):
        proxy.opened(sealer, uuid4(), sealed)
