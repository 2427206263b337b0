"""`HostClient`: asks the host that holds a session to do something, and finds a host for a session that has none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

import aiohttp
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.db import hosts
from shared.db.hosts import Owner
from shared.db.pool import Pool
from shared.domain.errors import HostUnreachable, Misconfigured
from shared.domain.ids import ConnectionId
from shared.hosts import protocol
from shared.hosts.protocol import (
    CheckAnswer,
    EndAnswer,
    LookupAnswer,
    OpenAnswer,
    PairCodeAnswer,
    ProxyAnswer,
    SendAnswer,
    ShowAnswer,
    StateAnswer,
    Taken,
)
from shared.hosts.signature import Signer
from shared.settings import Settings

A = TypeVar("A")

# To get a connection, one of the pool's or a new one.
_CONNECT_S: Final = 2.0
# A command that only changes the host's own state, or asks its store.
_QUICK_S: Final = 10.0
# A command that only writes to the socket; the host itself gives up after 10 s.
_SHOW_S: Final = 15.0
# The host's own fetch of a large file may take two minutes.
_FILE_S: Final = 150.0
_PIECE_BYTES: Final = 256 * 1024
_BYTES: Final = "application/octet-stream"
# Closing waits for the library, logging out for WhatsApp too.
_END_S: Final = 30.0
_MOST_CONNECTIONS: Final = 200
# A host keeps an idle connection for longer (75 s), so it is never the first to close one, unless it stops.
_IDLE_S: Final = 15.0
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404


class HostNotReached(HostUnreachable):
    """The command never arrived: nothing of it happened, or will."""


class HostHttp:
    """POSTs signed commands."""

    def __init__(self, session: aiohttp.ClientSession, signer: Signer) -> None:
        self._session = session
        self._signer = signer

    def post(
        self, address: str, command: str, body: BaseModel, *, timeout_s: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The answer to one command, once its head is here; signed for this host and this time only."""
        url, content = f"{address}{protocol.COMMANDS}/{command}", body.model_dump_json().encode()
        return self._session.post(
            url,
            data=content,
            headers={"Authorization": self._signer.header(url, content)},
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=_CONNECT_S),
            allow_redirects=False,
        )


class HostClient:
    """Safe to share between tasks. Every call raises HostUnreachable when the host does not answer in time.

    What was asked may or may not have happened then: commands are safe to repeat, a send after a lookup.
    """

    def __init__(self, pool: Pool, http: HostHttp, *, send_timeout_s: float) -> None:
        self._pool = pool
        self._http = http
        self._send_timeout_s = send_timeout_s

    async def owner(self, connection_id: ConnectionId) -> Owner | None:
        """Who holds the session now; None while nobody does."""
        return await hosts.owner(self._pool, connection_id)

    async def open(self, connection_id: ConnectionId, *, restart: bool = False, to_unlink: bool = False) -> OpenAnswer:
        """Have a host take the session: its owner when it has one, else the least loaded one.

        Raises HostUnreachable when no host is alive, none has room, or the one asked does not answer.
        """
        command = protocol.Open(connection_id=connection_id, restart=restart, to_unlink=to_unlink)
        owner = await self.owner(connection_id)
        addresses = [owner.address] if owner else [host.address for host in await hosts.live(self._pool)]
        trouble = "no session host is alive or has room; start one with `./zh session-host`."
        for address in addresses:
            try:
                answer = await self._ask(address, "open", command, protocol.OPEN_ANSWER, timeout_s=_QUICK_S)
            except HostUnreachable as error:
                trouble = error.detail
                continue
            if isinstance(answer, Taken | protocol.NoSession):
                return answer
        raise HostUnreachable(trouble)

    async def send(self, owner: Owner, command: protocol.Send) -> SendAnswer:
        """One try of one message. After HostUnreachable or Ambiguous it may have left: `lookup` says."""
        return await self._ask(owner.address, "send", command, protocol.SEND_ANSWER, timeout_s=self._send_timeout_s)

    async def lookup(self, owner: Owner, command: protocol.Lookup) -> LookupAnswer:
        """What became of a try. NeverLeft also sees to it that the try cannot leave later."""
        return await self._ask(owner.address, "lookup", command, protocol.LOOKUP_ANSWER, timeout_s=_QUICK_S)

    async def close(self, owner: Owner, command: protocol.Close) -> EndAnswer:
        """Close the socket; the phone stays linked."""
        return await self._ask(owner.address, "close", command, protocol.END_ANSWER, timeout_s=_END_S)

    async def logout(self, owner: Owner, command: protocol.Logout) -> EndAnswer:
        """Unlink at the phone."""
        return await self._ask(owner.address, "logout", command, protocol.END_ANSWER, timeout_s=_END_S)

    async def pair_code(self, owner: Owner, command: protocol.PairCode) -> PairCodeAnswer:
        """A code to type on the phone; also stored on the connection, with its event."""
        return await self._ask(owner.address, "pair-code", command, protocol.PAIR_CODE_ANSWER, timeout_s=_END_S)

    async def check(self, owner: Owner, command: protocol.Check) -> CheckAnswer:
        """Which numbers are on WhatsApp."""
        return await self._ask(owner.address, "check", command, protocol.CHECK_ANSWER, timeout_s=_END_S)

    async def typing(self, owner: Owner, command: protocol.Typing) -> ShowAnswer:
        """Show that somebody types."""
        return await self._ask(owner.address, "typing", command, protocol.SHOW_ANSWER, timeout_s=_SHOW_S)

    async def read(self, owner: Owner, command: protocol.Read) -> ShowAnswer:
        """Show that messages were read."""
        return await self._ask(owner.address, "read", command, protocol.SHOW_ANSWER, timeout_s=_SHOW_S)

    async def download(
        self, owner: Owner, command: protocol.Download, write: Callable[[bytes], Awaitable[None]]
    ) -> protocol.NoFile | None:
        """Give a file that came in to `write`, piece by piece; None: it was whole, and checked against its hash.

        After HostUnreachable only a part of it may have been written.
        """
        try:
            async with self._http.post(owner.address, "download", command, timeout_s=_FILE_S) as response:
                if response.status == _OK and response.content_type == _BYTES:
                    async for piece in response.content.iter_chunked(_PIECE_BYTES):
                        await write(piece)
                    return None
                return _told("download", response.status, await response.read(), protocol.NO_FILE)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise HostUnreachable(f"the session host did not answer `download` ({type(error).__name__}).") from error

    async def state(self, owner: Owner, command: protocol.State) -> StateAnswer:
        """What the host itself knows."""
        return await self._ask(owner.address, "state", command, protocol.STATE_ANSWER, timeout_s=_QUICK_S)

    async def try_proxy(self, command: protocol.TryProxy) -> ProxyAnswer:
        """Whether WhatsApp answers through the connection's proxy: seen from its host, or from any when it has none."""
        owner = await self.owner(ConnectionId(command.connection_id))
        addresses = [owner.address] if owner else [host.address for host in await hosts.live(self._pool)]
        if not addresses:
            raise HostUnreachable("no session host is alive; start one with `./zh session-host`.")
        return await self._ask(addresses[0], "try-proxy", command, protocol.PROXY_ANSWER, timeout_s=_END_S)

    async def _ask(self, address: str, command: str, body: BaseModel, answer: TypeAdapter[A], *, timeout_s: float) -> A:
        # The loop hears in these two turns that the host has closed a kept connection, and then another one is taken.
        # A command is written once: what went into a connection that breaks only now may have arrived.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            async with self._http.post(address, command, body, timeout_s=timeout_s) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise HostNotReached(f"the session host cannot be reached for `{command}`.") from error
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise HostUnreachable(f"the session host did not answer `{command}` ({type(error).__name__}).") from error
        return _told(command, status, content, answer)


def _told(command: str, status: int, content: bytes, answer: TypeAdapter[A]) -> A:
    """What the host said. Raises HostUnreachable for what says nothing, Misconfigured for a wrong token."""
    if status == _UNAUTHORIZED:
        if content == protocol.STALE:
            raise HostUnreachable(
                f"the session host did not take `{command}`: its clock and this machine's differ by more than a minute."
            )
        raise Misconfigured("the session host refused ZAPHUB_HOST_TOKEN: it must be the same everywhere.")
    if status == _NOT_FOUND:
        # The address has the process's id in it.
        raise HostNotReached(f"another process has taken the session host's place, so `{command}` was not done.")
    try:
        if status == _OK:
            return answer.validate_json(content)
    except ValidationError as error:
        raise HostUnreachable(_says_nothing(command, status)) from error
    raise HostUnreachable(_says_nothing(command, status))


def _says_nothing(command: str, status: int) -> str:
    return f"the session host answered `{command}` with {status}, which says nothing."


@asynccontextmanager
async def open_host_client(settings: Settings, pool: Pool) -> AsyncIterator[HostClient]:
    """A client for one process's life. Without ZAPHUB_HOST_TOKEN hosts refuse it, and a call raises Misconfigured."""
    token = "" if settings.host_token is None else settings.host_token.get_secret_value()
    async with open_http(token) as http:
        yield HostClient(pool, http, send_timeout_s=settings.send_timeout_s)


@asynccontextmanager
async def open_http(token: str) -> AsyncIterator["HostHttp"]:
    """What a HostClient speaks through."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, keepalive_timeout=_IDLE_S),
        headers={"Content-Type": "application/json"},
        # Never through a proxy of the environment: hosts are neighbours, and what is said to them is theirs alone.
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        yield HostHttp(session, Signer(token))
