"""Remembers which numbers are on WhatsApp and by which JID, so that not every send asks; and limits who only asks."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from session_host.whatsapp.port import WhatsAppClient
from shared.domain.ids import ConnectionId
from shared.hosts.protocol import NotConnected, Refused

# A number that is there stays for long; one that is not may join at any moment.
_THERE_S: Final = 86_400.0
_NOT_THERE_S: Final = 300.0
_KEPT: Final = 50_000
# Numbers that WhatsApp may be asked about for a check, beside those of sends: asking for many is what bulk senders do.
CHECKS_PER_MINUTE: Final = 60
_MINUTE_S: Final = 60.0


class KnownNumbers:
    """One process's memory of numbers, shared by its sessions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[str | None, float]] = OrderedDict()
        # When the session's checks that were made so far are paid off.
        self._paid_at: dict[ConnectionId, float] = {}

    async def jid_of(self, client: WhatsAppClient, phone: str) -> str | Refused | NotConnected | None:
        """The JID by which WhatsApp knows the number, None when it is not there, or why it could not be asked."""
        answer = await self._ask(client, (phone,))
        return answer if isinstance(answer, Refused | NotConnected) else answer[phone]

    async def check(
        self, client: WhatsAppClient, phones: Sequence[str], *, session: ConnectionId
    ) -> Mapping[str, str | None] | Refused | NotConnected:
        """The JID of each number, None for one that is not there.

        At most 60 numbers a minute and session that nobody remembers, and as many at once after a rest.
        """
        unknown = [phone for phone in dict.fromkeys(phones) if self._remembered(phone) is None]
        now = self._clock()
        paid_at = max(self._paid_at.get(session, 0.0), now)
        due_at = paid_at + len(unknown) * _MINUTE_S / CHECKS_PER_MINUTE
        # One check may have more numbers than a minute's: it passes after a rest, and is then paid off.
        if unknown and paid_at > now and due_at - now > _MINUTE_S:
            return Refused(
                code="RATE_LIMITED",
                detail=f"This connection may ask WhatsApp about {CHECKS_PER_MINUTE} numbers a minute.",
                retry_after_s=min(due_at - now - _MINUTE_S, paid_at - now),
            )
        # Before the question, so that checks at the same moment share the quota; what was not asked is given back.
        self._paid_at[session] = due_at
        answer = await self._ask(client, tuple(phones))
        if isinstance(answer, Refused | NotConnected):
            self._paid_at[session] -= due_at - paid_at
        return answer

    async def _ask(
        self, client: WhatsAppClient, phones: tuple[str, ...]
    ) -> Mapping[str, str | None] | Refused | NotConnected:
        known = {phone: self._remembered(phone) for phone in phones}
        unknown = tuple(phone for phone, found in known.items() if found is None)
        if unknown:
            answer = await client.jids_of(unknown)
            if isinstance(answer, Refused | NotConnected):
                return answer
            for phone in unknown:
                self._remember(phone, answer[phone])
                known[phone] = (answer[phone],)
        return {phone: found[0] for phone, found in known.items() if found is not None}

    def _remembered(self, phone: str) -> tuple[str | None] | None:
        """What is known of the number, in a tuple; None when nothing is, any more."""
        known = self._known.get(phone)
        return (known[0],) if known is not None and self._clock() < known[1] else None

    def _remember(self, phone: str, jid: str | None) -> None:
        self._known[phone] = (jid, self._clock() + (_NOT_THERE_S if jid is None else _THERE_S))
        self._known.move_to_end(phone)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
