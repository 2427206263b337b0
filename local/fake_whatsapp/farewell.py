"""The server's last word to a client, and the line that it keeps open until the word was heard."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from local.fake_whatsapp.protocol.node import SERVER, Node

if TYPE_CHECKING:
    from local.fake_whatsapp.protocol.channel import Channel

log = structlog.get_logger()

# A client that stalls for longer loses the word: the line must end some time.
PATIENCE_S = 10.0
NOTIFICATION_ID = "farewell"


class Farewell:
    """Said once to one client.

    whatsmeow forgets what it has not handled when its socket closes, and it handles stanzas in order: by
    acknowledging a notification that follows the farewell it shows that it heard the farewell.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._said = asyncio.Event()
        self._heard = asyncio.Event()

    @property
    def is_said(self) -> bool:
        """From its first byte on; what the client says afterwards is for `listen` alone."""
        return self._said.is_set()

    async def say(self, word: Node) -> None:
        """Raises ChannelClosed when the client is gone."""
        self._said.set()
        await self._channel.send(word)
        attrs = {"from": SERVER, "type": "server", "id": NOTIFICATION_ID, "t": str(int(time.time()))}
        await self._channel.send(Node("notification", attrs))

    def listen(self, node: Node) -> None:
        """What the client says after the farewell."""
        if node.tag == "ack" and node.attrs.get("id") == NOTIFICATION_ID:
            self._heard.set()

    async def hang_up(self) -> None:
        """Wait until the farewell was said and heard, 10 s at the longest, and close."""
        await self._said.wait()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._heard.wait()
        except TimeoutError:
            log.debug("farewell_not_heard")
        await self._channel.close()
