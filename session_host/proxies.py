"""The proxies of this process's connections: opened, judged at each dial, and tried on request."""

import asyncio
import ssl
import time
from typing import Final

import httpcore
import httpx
import structlog

from shared.db.connection_configs import StoredConfig
from shared.domain.connection_config import parse_proxy
from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.ids import ConnectionId
from shared.egress import proxy
from shared.egress.dial import RESOLVE_TIMEOUT_S
from shared.egress.target import Rule, TargetForbidden
from shared.hosts.protocol import ProxyTried
from shared.sealing import Sealer
from shared.settings import Settings

# The one host that a socket needs; any answer of it over verified TLS says that the way is open.
_WHATSAPP: Final = "https://web.whatsapp.com/"
_TRIAL_S: Final = 15.0
_TRIALS_AT_ONCE: Final = 8

log = structlog.get_logger(__name__)


class Proxies:
    """One per process. `default`: the way that connections without a proxy of their own take; None: straight."""

    def __init__(self, settings: Settings, *, default: str | None) -> None:
        self._rule = Rule(allow=tuple(settings.webhook_allow_networks))
        self._sealer = Sealer(settings.secret_key)
        self._fake_url = settings.fake_whatsapp_url
        self._default = default
        self._places = asyncio.Semaphore(_TRIALS_AT_ONCE)

    def of(self, connection_id: ConnectionId, stored: StoredConfig) -> str | None:
        """The whole URL, with its password. Raises Unavailable when the seal does not open."""
        if stored.proxy_sealed is None:
            return None
        try:
            return proxy.opened(self._sealer, connection_id, stored.proxy_sealed)
        except Misconfigured as error:
            # Without it the connection would show WhatsApp another address than its owner wants.
            log.error("proxy_unreadable", session_id=str(connection_id))  # noqa: TRY400 - the text says it all
            raise Unavailable(error.detail) from error

    async def dialled(self, url: str) -> str:
        """What the library is given: the proxy by an address that was judged just now. Raises Unavailable."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                return (await proxy.dialled(self._rule, parse_proxy(url))).url()
        except TargetForbidden:
            raise Unavailable("The proxy's host is not on the public internet.") from None
        except (OSError, UnicodeError):
            raise Unavailable("The proxy's name does not resolve.") from None

    async def tried(self, url: str | None) -> ProxyTried:
        """Whether WhatsApp answers through the proxy, or without one, and after how many milliseconds."""
        began = time.monotonic()
        trouble = await self._trouble(url)
        took_ms = round((time.monotonic() - began) * 1000)
        return ProxyTried(is_reachable=trouble is None, duration_ms=took_ms, trouble=trouble)

    async def _trouble(self, url: str | None) -> str | None:
        try:
            async with asyncio.timeout(_TRIAL_S), self._places:
                way = self._default if url is None else await self.dialled(url)
                async with _pool(way, await self._roots()) as pool, pool.stream("GET", _WHATSAPP):
                    return None
        except Unavailable as error:
            return error.detail
        except TimeoutError:
            return f"WhatsApp did not answer within {_TRIAL_S:g} s."
        except httpcore.ProxyError as error:
            # Its text is the proxy's own word: "407 Proxy Authentication Required".
            return f"The proxy refused: {str(error)[:200]}."
        except (OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            return _said(error)

    async def _roots(self) -> ssl.SSLContext:
        """What vouches for WhatsApp, or for the server that stands in for it."""
        if self._fake_url is None:
            return httpx.create_ssl_context()
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{self._fake_url.rstrip('/')}/connector")
        except httpx.HTTPError as error:
            raise Unavailable("The server of ZAPHUB_FAKE_WHATSAPP_URL does not answer.") from error
        return ssl.create_default_context(cadata=answer.json()["ca_pem"])


def _pool(way: str | None, roots: ssl.SSLContext) -> httpcore.AsyncConnectionPool:
    if way is None:
        return httpcore.AsyncConnectionPool(ssl_context=roots)
    address = parse_proxy(way)
    url = httpx.URL(way)
    login = (url.username.encode(), url.password.encode()) if address.user else None
    bare = httpcore.URL(scheme=address.scheme.encode(), host=address.host.encode(), port=address.port, target=b"/")
    if address.scheme == "socks5":
        return httpcore.AsyncSOCKSProxy(bare, proxy_auth=login, ssl_context=roots)
    return httpcore.AsyncHTTPProxy(bare, proxy_auth=login, ssl_context=roots)


def _said(error: BaseException) -> str:
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "No secure connection to WhatsApp: something on the way shows a certificate of its own."
    if isinstance(error, httpcore.ConnectError):
        return "No connection: the proxy, or WhatsApp behind it, does not accept one."
    return "The connection broke before WhatsApp answered."
