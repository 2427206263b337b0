"""A connection's proxy: which ones may be used, how its URL is kept, and how it is dialled."""

import asyncio
from dataclasses import replace
from typing import Final
from uuid import UUID

from shared.domain.connection_config import ProxyAddress
from shared.domain.errors import InvalidInput
from shared.egress.target import Rule, TargetForbidden, is_inside_name
from shared.sealing import Sealer

CODE: Final = "PROXY_FORBIDDEN"


async def check(rule: Rule, address: ProxyAddress, *, pointer: str) -> None:
    """Judge a proxy at the door, as a webhook's target is judged. Raises InvalidInput with the code PROXY_FORBIDDEN.

    A public name that does not resolve now is let in: it is judged again whenever it is dialled.
    """
    try:
        async with asyncio.timeout(rule.door_timeout_s):
            await rule.addresses(address.host, address.port)
    except TargetForbidden:
        raise _refused(pointer) from None
    except (OSError, UnicodeError):
        if is_inside_name(address.host):
            raise _refused(pointer) from None


async def dialled(rule: Rule, address: ProxyAddress) -> ProxyAddress:
    """The proxy as it may be dialled now: by an address that was judged, so that its name cannot lead elsewhere.

    One of `https` keeps its name, which its certificate must show: whoever serves an inside address has none for it.
    Raises TargetForbidden when an address of it is forbidden, OSError when it has none.
    """
    first, *_ = await rule.addresses(address.host, address.port)
    return address if address.scheme == "https" else replace(address, host=str(first))


def seal(sealer: Sealer, connection_id: UUID, address: ProxyAddress) -> bytes:
    """The proxy as its row keeps it."""
    return sealer.seal(address.url().encode(), context=_context(connection_id))


def opened(sealer: Sealer, connection_id: UUID, sealed: bytes) -> str:
    """The proxy's whole URL. Raises Misconfigured when SECRET_KEY is another than it was sealed with."""
    return sealer.open(sealed, context=_context(connection_id)).decode()


def _context(connection_id: UUID) -> str:
    return f"connection-proxy:{connection_id}"


def _refused(pointer: str) -> InvalidInput:
    return InvalidInput(
        "the proxy's host is not on the public internet. If it is a service of yours, whoever runs ZapHub allows "
        "its network with ZAPHUB_WEBHOOK_ALLOW_NETWORKS.",
        pointer=pointer,
        code=CODE,
    )
