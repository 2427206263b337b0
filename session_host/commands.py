"""The host's command API: authenticated HTTP, one POST a command (`shared/hosts/protocol.py` says what they mean)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from session_host.habits import Habits
from session_host.numbers import KnownNumbers
from session_host.roster import Roster
from session_host.sends import SendDesk
from session_host.session import Session
from shared.db.pool import AWAY
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId
from shared.domain.session import SessionStatus
from shared.hosts import protocol
from shared.hosts.protocol import Checked, Ended, NotConnected, NotOwner, Refused, Shown, StateAnswer
from shared.hosts.signature import Judge, Judgement, is_here

C = TypeVar("C", bound=BaseModel)

# A batch of a thousand numbers fits; a message's text is at most 64 KiB.
_BODY_BYTES: Final = 1024 * 1024
# A message that is on its way gets this long before its socket is closed.
_SETTLE_S: Final = 5.0
# To be unlinked, a session must be logged in first.
_LOGIN_S: Final = 15.0
# The library gives files whole.
_DOWNLOADS_AT_ONCE: Final = 4

log = structlog.get_logger(__name__)


class Commands:
    """What each command does with the roster and the desk."""

    def __init__(self, roster: Roster, desk: SendDesk, numbers: KnownNumbers, habits: Habits) -> None:
        self._roster = roster
        self._desk = desk
        self._numbers = numbers
        self._habits = habits
        self._downloads = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

    def application(self, *, token: str, address: str = "") -> web.Application:
        """Serve the commands to whoever signs them with the token; each signature once.

        `address` is the URL by which others know this process, when it is not the socket's alone. Its path is a part
        of every command's, so a command to a process that was at this port before is not taken.
        """
        app = web.Application(client_max_size=_BODY_BYTES, middlewares=[_only_signed_with(token, address)])
        table: list[tuple[str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("open", _command(protocol.Open, self.open)),
            ("close", _command(protocol.Close, self.close)),
            ("logout", _command(protocol.Logout, self.logout)),
            ("pair-code", _command(protocol.PairCode, self.pair_code)),
            ("send", _command(protocol.Send, self.send)),
            ("lookup", _command(protocol.Lookup, self.lookup)),
            ("check", _command(protocol.Check, self.check)),
            ("typing", _command(protocol.Typing, self.typing)),
            ("read", _command(protocol.Read, self.read)),
            ("state", _command(protocol.State, self.state)),
            ("download", _command(protocol.Download, self.download)),
            ("try-proxy", _command(protocol.TryProxy, self.try_proxy)),
        ]
        path = f"{urlsplit(address).path}{protocol.COMMANDS}"
        app.add_routes([web.post(f"{path}/{name}", handler) for name, handler in table])
        return app

    async def open(self, command: protocol.Open) -> BaseModel:
        return await self._roster.open(
            ConnectionId(command.connection_id), restart=command.restart, to_unlink=command.to_unlink
        )

    async def close(self, command: protocol.Close) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        await self._desk.settle(session.connection_id, within_s=_SETTLE_S)
        has_closed = await session.close(SessionStatus.CLOSED, reason="stop")
        return Ended() if has_closed else NotOwner()

    async def logout(self, command: protocol.Logout) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        await self._desk.settle(session.connection_id, within_s=_SETTLE_S)
        to = SessionStatus.CLOSED if command.is_deleted else SessionStatus.LOGGED_OUT
        if not await session.wait_online(within_s=_LOGIN_S):
            return NotConnected()
        is_unlinked = await session.logout(to, reason="delete" if command.is_deleted else "logout")
        return Ended(unlinked=True) if is_unlinked else NotConnected()

    async def pair_code(self, command: protocol.PairCode) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        return NotOwner() if session is None else await session.pair_code(command.phone)

    async def send(self, command: protocol.Send) -> BaseModel:
        return await self._desk.send(command, self._roster.get(ConnectionId(command.connection_id)))

    async def lookup(self, command: protocol.Lookup) -> BaseModel:
        return await self._desk.lookup(command, self._roster.get(ConnectionId(command.connection_id)))

    async def check(self, command: protocol.Check) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        if session.client is None or not session.may_send:
            return NotConnected()
        answer = await self._numbers.check(session.client, command.phones, session=session.connection_id)
        if isinstance(answer, Refused | NotConnected):
            return answer
        return Checked(
            on_whatsapp={phone: person is not None for phone, person in answer.items()},
            jids={phone: person.jid for phone, person in answer.items() if person is not None},
            lids={phone: person.lid for phone, person in answer.items() if person is not None and person.lid},
        )

    async def download(self, command: protocol.Download) -> BaseModel | bytes:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        if session.client is None or not session.may_send:
            return NotConnected()
        async with self._downloads:
            return await session.client.download(command.source)

    async def typing(self, command: protocol.Typing) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        if session.client is None or not session.may_send:
            return NotConnected()
        to = await self._numbers.named(session.connection_id, command.to)
        return await session.client.show_typing(to, command.state)

    async def read(self, command: protocol.Read) -> BaseModel:
        session = self._held(command.connection_id, command.epoch)
        if session is None:
            return NotOwner()
        for one in command.messages:
            if session.client is None or not session.may_send:
                return NotConnected()
            answer = await session.client.mark_read(one.chat, one.sender, tuple(one.wire_ids))
            if not isinstance(answer, Shown):
                return answer
        return Shown()

    async def state(self, command: protocol.State) -> BaseModel:
        session = self._roster.get(ConnectionId(command.connection_id))
        if session is None:
            return StateAnswer(is_held=False)
        return StateAnswer(
            is_held=True,
            epoch=session.epoch,
            phase=session.phase.value,
            is_sending=self._desk.is_sending(session.connection_id),
        )

    async def try_proxy(self, command: protocol.TryProxy) -> BaseModel:
        return await self._habits.try_proxy(ConnectionId(command.connection_id))

    def _held(self, connection_id: object, epoch: int) -> Session | None:
        session = self._roster.get(ConnectionId(connection_id))  # type: ignore[arg-type]  # a UUID, by the command
        return session if session is not None and session.epoch == epoch else None


def _command(
    model: type[C], run: Callable[[C], Awaitable[BaseModel | bytes]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            command = model.model_validate_json(await request.read())
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
            return web.json_response({"errors": [f"{one['loc']}: {one['msg']}" for one in found]}, status=422)
        try:
            answer = await run(command)
        except (*AWAY, Unavailable) as error:
            log.warning("command_unavailable", command=model.__name__, error=type(error).__name__)
            return web.json_response({"error": "UNAVAILABLE"}, status=503)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        return web.Response(text=answer.model_dump_json(), content_type="application/json")

    return handle


def _only_signed_with(token: str, address: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    judge = Judge(token)
    own = urlsplit(address).netloc

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        url = f"http://{request.host}{request.path_qs}"
        given = request.headers.get("Authorization", "")
        sockname = None if request.transport is None else request.transport.get_extra_info("sockname")
        if sockname is None or not (request.host == own or is_here(url, sockname[:2])):
            return web.json_response({"error": "UNAUTHORIZED"}, status=401)
        match judge.judge(given, url, await request.read()):
            case Judgement.GENUINE:
                return await handler(request)
            case Judgement.STALE:
                return web.Response(body=protocol.STALE, status=401, content_type="application/json")
            case Judgement.WRONG | Judgement.USED as why:
                log.warning("command_refused", why=why.value)
                return web.json_response({"error": "UNAUTHORIZED"}, status=401)

    return check
