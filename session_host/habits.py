"""What the sessions of this process do because their connection's `config` says so: proxy, presence, calls.

Every change of a config is seen within `LOOK_S`, however it came to Postgres.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from session_host import alone
from session_host.calls import Calls
from session_host.proxies import Proxies
from session_host.whatsapp.port import (
    CallOffered,
    ClientEvent,
    ClientFactory,
    ClientSpec,
    Connected,
    Emit,
    KeepAliveRestored,
    Profile,
    ProxyChanged,
    Undecryptable,
    WhatsAppClient,
    WireRecord,
)
from shared.db import connection_configs
from shared.db.connection_configs import StoredConfig
from shared.db.pool import AWAY, COLLISION
from shared.domain.connection_config import ConnectionConfig
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId
from shared.hosts.protocol import NoSession, ProxyTried, Shown
from shared.queues.runtime import Queues

# Rows of at most some dozens of sessions, by their primary key.
LOOK_S: Final = 1.0
# A message that is on its way gets this long before its socket is closed for another proxy.
_SETTLE_S: Final = 5.0
# The library learns the phone's name some seconds after a first login, and shows no presence before: 1, 2, 4, … 60 s.
_MOST_PAUSE_S: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Client:
    """The newest client of a session, and what was done for it."""

    connection_id: ConnectionId
    emit: Emit
    client: WhatsAppClient | None = None
    config: ConnectionConfig = field(default_factory=ConnectionConfig)
    proxy: str | None = None
    has_asked: bool = False  # for its proxy: from then on another one matters
    is_leaving: bool = False
    logins: int = 0
    shown: tuple[int, bool] | None = None  # the login, and whether contacts see it online since
    is_showing: bool = False
    tries: int = 0
    try_at: float = 0.0


class Habits:
    """One per process. `over` gives sessions clients that keep habits; `run` sees that they keep up with the rows."""

    def __init__(self, queues: Queues, group: asyncio.TaskGroup, proxies: Proxies) -> None:
        self._queues = queues
        self._group = group
        self._proxies = proxies
        self._calls = Calls(queues)
        self._clients: dict[ConnectionId, _Client] = {}
        self._is_held: Callable[[ConnectionId], bool] = lambda _: True
        self._settle: Callable[..., Coroutine[Any, Any, None]] | None = None

    def equip(
        self, *, is_held: Callable[[ConnectionId], bool], settle: Callable[..., Coroutine[Any, Any, None]]
    ) -> None:
        """Say which sessions are this process's, and how a send of one is waited for; before `run`."""
        self._is_held, self._settle = is_held, settle

    def over(self, make: ClientFactory) -> ClientFactory:
        """A factory of the same clients, which go through their connection's proxy and are heard here first."""

        def made(spec: ClientSpec) -> WhatsAppClient:
            one = _Client(spec.connection_id, spec.emit)
            client = make(
                replace(
                    spec,
                    emit=lambda event: self._hear(one, event),
                    record=lambda found: self._record(one, spec, found),
                    on_call=lambda call: self._on_call(one, call),
                    proxy_url=lambda: self._proxy_for(one),
                )
            )
            one.client = client
            self._clients[spec.connection_id] = one
            return client

        return made

    async def run(self) -> None:
        """Look at the configs of this process's sessions, once a second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._look(loop.time())
            except (*AWAY, *COLLISION, Unavailable) as error:
                log.warning("configs_wait", error=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def _look(self, now: float) -> None:
        for connection_id in [one for one in self._clients if not self._is_held(one)]:
            del self._clients[connection_id]
        if not self._clients:
            return
        found = await connection_configs.read(self._queues.pool, list(self._clients))
        for one in list(self._clients.values()):
            stored = found.get(one.connection_id)
            if stored is not None:
                self._keep_up(one, stored, now)

    def _keep_up(self, one: _Client, stored: StoredConfig, now: float) -> None:
        one.config = stored.config
        if one.has_asked and not one.is_leaving and self._is_another(one, stored):
            one.is_leaving = True
            self._begin(self._leave(one))
        wanted = (one.logins, one.config.always_online)
        if one.logins and one.shown != wanted and not one.is_showing and now >= one.try_at:
            one.is_showing = True
            self._begin(self._show(one, wanted))

    def _is_another(self, one: _Client, stored: StoredConfig) -> bool:
        """Whether its connection has another proxy by now. One whose seal does not open is found out at the start."""
        try:
            return self._proxies.of(one.connection_id, stored) != one.proxy
        except Unavailable:
            return True

    def _begin(self, habit: Coroutine[Any, Any, None]) -> None:
        alone.begin(self._group, habit, fault="habit_failed")

    async def _leave(self, one: _Client) -> None:
        """End a client whose proxy is not its connection's any more; the session makes another one."""
        if self._settle is not None:
            await self._settle(one.connection_id, within_s=_SETTLE_S)
        log.info("proxy_changed", session_id=str(one.connection_id))
        one.emit(ProxyChanged())

    async def _show(self, one: _Client, wanted: tuple[int, bool]) -> None:
        assert one.client is not None
        try:
            answer = await one.client.show_presence(is_available=wanted[1])
        finally:
            one.is_showing = False
        if isinstance(answer, Shown):
            one.shown, one.tries = wanted, 0
            return
        one.try_at = asyncio.get_running_loop().time() + min(2.0**one.tries, _MOST_PAUSE_S)
        one.tries = min(one.tries + 1, 10)

    async def try_proxy(self, connection_id: ConnectionId) -> ProxyTried | NoSession:
        """Whether WhatsApp answers the way that the connection's config says. Raises one of AWAY, Unavailable."""
        stored = (await connection_configs.read(self._queues.pool, [connection_id])).get(connection_id)
        return NoSession() if stored is None else await self._proxies.tried(self._proxies.of(connection_id, stored))

    def _hear(self, one: _Client, event: ClientEvent) -> None:
        if isinstance(event, Connected):
            # WhatsApp forgets what a socket showed when it closes.
            one.logins += 1
        if isinstance(event, Connected | KeepAliveRestored | Profile):
            one.tries, one.try_at = 0, 0.0
        one.emit(event)

    def _record(self, one: _Client, spec: ClientSpec, found: WireRecord) -> None:
        """In the library's thread. What came in is journaled in any case; of what cannot be read there is only word."""
        if not (isinstance(found, Undecryptable) and one.config.ignores(found.chat)):
            spec.record(found)

    def _on_call(self, one: _Client, call: CallOffered) -> None:
        if one.client is not None:
            self._begin(self._calls.answer(one.connection_id, one.client, call, one.config))

    async def _proxy_for(self, one: _Client) -> str | None:
        """What the library dials. Raises Unavailable when Postgres or a name server is away, or it is forbidden."""
        try:
            found = await connection_configs.read(self._queues.pool, [one.connection_id])
        except (*AWAY, *COLLISION) as error:
            raise Unavailable("Postgres does not answer.") from error
        stored = found.get(one.connection_id)
        one.config = ConnectionConfig() if stored is None else stored.config
        one.proxy = None if stored is None else self._proxies.of(one.connection_id, stored)
        one.has_asked = True
        return None if one.proxy is None else await self._proxies.dialled(one.proxy)
