"""Remembers which numbers are on WhatsApp, so that not every send asks."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from session_host.whatsapp.port import WhatsAppClient
from shared.hosts.protocol import NotConnected, Refused

# A number that is there stays for long; one that is not may join at any moment.
_THERE_S: Final = 86_400.0
_NOT_THERE_S: Final = 300.0
_KEPT: Final = 50_000


class KnownNumbers:
    """One process's memory of numbers, shared by its sessions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    async def is_on_whatsapp(self, client: WhatsAppClient, phone: str) -> bool | Refused | NotConnected:
        """Whether the number is there, asking WhatsApp when nobody knows; or why it could not be asked."""
        known = self._known.get(phone)
        if known is not None and self._clock() < known[1]:
            return known[0]
        answer = await client.are_on_whatsapp((phone,))
        if isinstance(answer, Refused | NotConnected):
            return answer
        is_there = answer[phone]
        self._known[phone] = (is_there, self._clock() + (_THERE_S if is_there else _NOT_THERE_S))
        self._known.move_to_end(phone)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return is_there
