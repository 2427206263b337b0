"""Shows `typing…` before a message, as a person's phone would, with a bound on how long and on how many at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from functions.turnstile import Turnstile
from shared.db.hosts import Owner
from shared.db.tries import Sendable
from shared.domain.errors import HostUnreachable
from shared.domain.message import MessageType
from shared.domain.pacing import typing_s
from shared.hosts import protocol
from shared.hosts.protocol import ShowAnswer, TypingState

# Nobody types these.
_SILENT: Final = frozenset({MessageType.REACTION, MessageType.EDIT, MessageType.REVOKE})
# A host that takes longer to show it is about to have trouble with the message too.
_SHOWN_WITHIN_S: Final = 2.0
_TEXTS: Final = ("text", "caption", "question")


class Typing(Protocol):
    """A host, as a typist sees it."""

    async def typing(self, owner: Owner, command: protocol.Typing) -> ShowAnswer: ...


class Typist:
    """One worker's. It waits in a slot of `message:send`, so only `at_once` messages are typed at a time."""

    def __init__(
        self,
        hosts: Typing,
        *,
        at_once: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        shown_within_s: float = _SHOWN_WITHIN_S,
    ) -> None:
        self._hosts = hosts
        self._turnstile = Turnstile(at_once)
        self._sleep = sleep
        self._shown_within_s = shown_within_s

    def wait_s(self, message: Sendable) -> float | None:
        """None: it may be typed now, or needs no typing. Otherwise the seconds after which to ask again."""
        return self._turnstile.wait_s() if self._types(message) else None

    async def type(self, owner: Owner, message: Sendable) -> None:
        """Type as long as its text asks for, 4 s at most. That it could not be shown keeps no message."""
        if not self._types(message):
            return
        with self._turnstile.inside():
            command = protocol.Typing(
                connection_id=message.connection_id, epoch=owner.epoch, to=message.jid, state=_state(message)
            )
            try:
                async with asyncio.timeout(self._shown_within_s):
                    answer = await self._hosts.typing(owner, command)
            except (HostUnreachable, TimeoutError):
                return
            if isinstance(answer, protocol.Shown):
                await self._sleep(typing_s(_characters(message.payload)))

    def _types(self, message: Sendable) -> bool:
        return message.types and message.type not in _SILENT


def _state(message: Sendable) -> TypingState:
    return "recording" if message.type == MessageType.AUDIO and message.payload.get("ptt") else "composing"


def _characters(payload: dict[str, Any]) -> int:
    return sum(len(text) for name in _TEXTS if isinstance(text := payload.get(name), str))
