"""Where a host's children listen, and the address that workers are told (docs/hosts.md, "Addresses")."""

import socket
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from shared.domain.errors import Misconfigured
from shared.settings import Ecs, Settings

AUTO: Final = "auto"
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_LOOPBACK: Final = "127.0.0.1"
_METADATA_S: Final = 5.0
_LAST_PORT: Final = 65_535
_POSTGRES: Final = 5432


def port_of(settings: Settings, number: int) -> int:
    """The port of child `number` (the first is 1); 0 stands for a free one. Raises Misconfigured beyond 65535."""
    if settings.host_port == 0:
        return 0
    port = settings.host_port + number - 1
    if port > _LAST_PORT:
        raise Misconfigured(f"ZAPHUB_HOST_PORT: child {number} would listen on port {port}; there is none.")
    return port


def listener(bind: str, port: int) -> socket.socket:
    """A socket that listens there. Raises Misconfigured when the port is taken, or the address another machine's."""
    try:
        return socket.create_server((bind, port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET)
    except OSError as error:
        raise Misconfigured(f"nothing can listen on {bind}, port {port}: {error.strerror}.") from error


async def advertised(settings: Settings, ecs: Ecs) -> str:
    """The address or name, without a port, that others reach this machine by. Raises Misconfigured when ECS is mute."""
    asked = settings.host_advertise or (AUTO if settings.host_bind in _ANY else settings.host_bind)
    if asked != AUTO:
        return asked
    if ecs.ecs_container_metadata_uri_v4 is not None:
        return await _of_task(ecs.ecs_container_metadata_uri_v4)
    return own_address(settings.database_url)


def url_of(host: str, port: int) -> str:
    """The URL of one process there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def own_address(database_url: str) -> str:
    """The address of this machine on the way to Postgres, where workers are too; no packet is sent."""
    parts = urlsplit(database_url)
    if parts.hostname is None:
        # A unix socket: everything runs here.
        return _LOOPBACK
    try:
        family, kind, *_, target = socket.getaddrinfo(parts.hostname, parts.port or _POSTGRES, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, kind) as way:
            way.connect(target)
            return str(way.getsockname()[0])
    except OSError:
        return _LOOPBACK


async def _of_task(metadata_url: str) -> str:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_METADATA_S), trust_env=False) as http,
            http.get(metadata_url) as answer,
        ):
            told: Any = await answer.json()
            return str(told["Networks"][0]["IPv4Addresses"][0])
    except (aiohttp.ClientError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Misconfigured(
            f"ECS did not tell this task's address ({type(error).__name__}); name it with ZAPHUB_HOST_ADVERTISE."
        ) from error
