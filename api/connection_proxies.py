"""What becomes of a connection's proxy when its config is set: judged, and sealed into a row of its own."""

from uuid import UUID

from api.resources import Resources
from shared.db import connection_configs
from shared.db.pool import Connection
from shared.domain.connection_config import HIDDEN, ConnectionConfig, parse_proxy
from shared.domain.errors import InvalidInput, Misconfigured
from shared.domain.ids import ConnectionId
from shared.egress import proxy
from shared.egress.target import Rule
from shared.sealing import Sealer

_POINTER = "/config/proxy"


async def judge(parts: Resources, config: ConnectionConfig | None) -> None:
    """Refuse a proxy that may not be used. Asks a name server, so it comes before the transaction.

    Raises InvalidInput with the code PROXY_FORBIDDEN.
    """
    if config is not None and config.proxy is not None:
        rule = Rule(allow=tuple(parts.settings.webhook_allow_networks))
        await proxy.check(rule, parse_proxy(config.proxy), pointer=_POINTER)


async def keep(connection: Connection, parts: Resources, connection_id: UUID, config: ConnectionConfig) -> None:
    """Keep the proxy of a locked connection as `config` says. A hidden password stays what it is.

    Raises InvalidInput when there is none that could stay.
    """
    sealer = Sealer(parts.settings.secret_key)
    if config.proxy is None:
        await connection_configs.set_proxy(connection, connection_id, None)
        return
    address = parse_proxy(config.proxy)
    if address.is_hidden:
        if await _shown(connection, sealer, connection_id) != address.shown():
            raise InvalidInput(f"no password is stored for this proxy; give it instead of {HIDDEN}.", pointer=_POINTER)
        return
    await connection_configs.set_proxy(connection, connection_id, proxy.seal(sealer, connection_id, address))


async def _shown(connection: Connection, sealer: Sealer, connection_id: UUID) -> str | None:
    """The proxy that is stored, as it is shown; None when there is none, or its seal is of another SECRET_KEY."""
    stored = (await connection_configs.read(connection, [connection_id]))[ConnectionId(connection_id)].proxy_sealed
    try:
        return None if stored is None else parse_proxy(proxy.opened(sealer, connection_id, stored)).shown()
    except Misconfigured:
        return None
