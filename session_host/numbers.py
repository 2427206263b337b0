"""Who has which number: asked of WhatsApp in every spelling at once before the first send, and remembered.

A digit is never added or removed by guess: a message goes to the JID that WhatsApp answered.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from session_host.whatsapp.port import WhatsAppClient
from shared.db import known_numbers
from shared.db.pool import AWAY, DatabaseError, Pool
from shared.domain.errors import Unavailable
from shared.domain.ids import ConnectionId
from shared.domain.jid import Person, Server, spellings_of
from shared.hosts.protocol import NotConnected, Refused, Send

# How long this process answers from its own memory, before it looks at what all have learned.
_OWN_MEMORY_S: Final = 3600.0
_KEPT: Final = 50_000
# Numbers that WhatsApp may be asked about for a check, beside those of sends: asking for many is what bulk senders do.
CHECKS_PER_MINUTE: Final = 60
_MINUTE_S: Final = 60.0
# A database that is slow must not hold a send up: WhatsApp is asked instead.
_RECALL_S: Final = 3.0
_NUMBER: Final = f"@{Server.PERSON}"
_ALIAS: Final = f"@{Server.ALIAS}"
_NOBODY: Final = Refused(code="NUMBER_NOT_ON_WHATSAPP", detail="This number is not on WhatsApp.", permanent=True)
_NOT_WRITTEN: Final = Refused(
    code="UNAVAILABLE", detail="The database did not take the recipient that WhatsApp named.", retry_after_s=1
)

# Whatever the database has: WhatsApp can be asked without it.
_TROUBLE: Final = (*AWAY, DatabaseError)

Answers = Mapping[str, Person | None]

log = structlog.get_logger(__name__)


class Memory(Protocol):
    """What all hosts have learned of a connection's numbers. May raise what asyncpg raises while Postgres is away."""

    async def recall(self, session: ConnectionId, phones: Sequence[str]) -> dict[str, Person | None]: ...
    async def learn(self, session: ConnectionId, answers: Answers) -> None: ...
    async def forget(self, session: ConnectionId, phones: Sequence[str]) -> None: ...
    async def readdress(self, message_id: UUID, jid: str) -> None: ...


class Aliases(Protocol):
    """Knows the numbers behind `@lid` JIDs."""

    async def numbers_of(self, lids: list[str]) -> dict[str, str]: ...


class PostgresMemory:
    """The `known_numbers` table."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recall(self, session: ConnectionId, phones: Sequence[str]) -> dict[str, Person | None]:
        async with self._pool.acquire(timeout=_RECALL_S) as connection:
            return await known_numbers.recall(connection, session, phones)

    async def learn(self, session: ConnectionId, answers: Answers) -> None:
        async with self._pool.acquire(timeout=_RECALL_S) as connection, connection.transaction():
            await known_numbers.learn(connection, session, answers)

    async def forget(self, session: ConnectionId, phones: Sequence[str]) -> None:
        async with self._pool.acquire(timeout=_RECALL_S) as connection:
            await known_numbers.forget(connection, session, phones)

    async def readdress(self, message_id: UUID, jid: str) -> None:
        async with self._pool.acquire(timeout=_RECALL_S) as connection:
            await known_numbers.readdress(connection, message_id, jid)


class KnownNumbers:
    """One process's way to what is known of numbers, for all of its sessions."""

    def __init__(self, memory: Memory, aliases: Aliases, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._aliases = aliases
        self._clock = clock
        self._own: OrderedDict[tuple[ConnectionId, str], tuple[Person, float]] = OrderedDict()
        # When the session's checks that were made so far are paid off.
        self._paid_at: dict[ConnectionId, float] = {}

    async def address(self, client: WhatsAppClient, command: Send) -> str | Refused | NotConnected:
        """The JID to which this message goes, or why none can be said; nothing has left then, and a retry is safe.

        Where it is another than the caller wrote, the message's chat is that one before this returns.
        """
        session = ConnectionId(command.connection_id)
        if command.to.endswith(_ALIAS):
            to = (await self._numbers_of(command.to)).get(command.to, command.to)
        elif command.to.endswith(_NUMBER):
            phone = command.to.removesuffix(_NUMBER)
            answers = await self._who(client, session, (phone,))
            if isinstance(answers, Refused | NotConnected):
                return answers
            if (person := answers[phone]) is None:
                return _NOBODY
            to = person.jid
            if to.endswith(_ALIAS):
                # WhatsApp told the alias and no number: the chat stays the one that the caller wrote.
                return to
        else:
            return command.to
        if to != command.to:
            try:
                await self._memory.readdress(command.message_id, to)
            except _TROUBLE:
                return _NOT_WRITTEN
        return to

    async def refused(self, command: Send, answer: Refused) -> Refused:
        """WhatsApp knows no such recipient, though it named it before: forget that, so that the next try asks anew.

        Somebody may have registered the number in its other spelling since. Only when nobody has is it for good.
        """
        if not command.to.endswith(_NUMBER):
            return answer
        session, phones = ConnectionId(command.connection_id), spellings_of(command.to.removesuffix(_NUMBER))
        for phone in phones:
            self._own.pop((session, phone), None)
        try:
            await self._memory.forget(session, phones)
        except _TROUBLE as error:
            log.warning("number_not_forgotten", session_id=str(session), error=type(error).__name__)
        return answer.model_copy(update={"permanent": False})

    async def named(self, session: ConnectionId, to: str) -> str:
        """The JID that is remembered for this recipient, or the recipient as it is: nobody is asked."""
        if not to.endswith(_NUMBER):
            return to
        phone = to.removesuffix(_NUMBER)
        person = (await self._recalled(session, (phone,))).get(phone)
        return to if person is None else person.jid

    async def check(
        self, client: WhatsAppClient, phones: Sequence[str], *, session: ConnectionId
    ) -> Answers | Refused | NotConnected:
        """Who has each number, None: nobody.

        At most 60 numbers a minute and session that nobody remembers, and as many at once after a rest.
        """
        known = await self._recalled(session, phones)
        unknown = len(set(phones) - known.keys())
        now = self._clock()
        paid_at = max(self._paid_at.get(session, 0.0), now)
        due_at = paid_at + unknown * _MINUTE_S / CHECKS_PER_MINUTE
        # One check may have more numbers than a minute's: it passes after a rest, and is then paid off.
        if unknown and paid_at > now and due_at - now > _MINUTE_S:
            return Refused(
                code="RATE_LIMITED",
                detail=f"This connection may ask WhatsApp about {CHECKS_PER_MINUTE} numbers a minute.",
                retry_after_s=min(due_at - now - _MINUTE_S, paid_at - now),
            )
        # Before the question, so that checks at the same moment share the quota; what was not asked is given back.
        self._paid_at[session] = due_at
        answers = await self._ask(client, session, tuple(phones), known=known)
        if isinstance(answers, Refused | NotConnected):
            self._paid_at[session] -= due_at - paid_at
        return answers

    async def _who(
        self, client: WhatsAppClient, session: ConnectionId, phones: tuple[str, ...]
    ) -> Answers | Refused | NotConnected:
        return await self._ask(client, session, phones, known=await self._recalled(session, phones))

    async def _ask(
        self, client: WhatsAppClient, session: ConnectionId, phones: tuple[str, ...], *, known: Answers
    ) -> Answers | Refused | NotConnected:
        """Of those that are not known WhatsApp is asked in one query, each in all of its spellings."""
        unknown = [phone for phone in dict.fromkeys(phones) if phone not in known]
        if not unknown:
            return known
        spellings = tuple(dict.fromkeys(one for phone in unknown for one in spellings_of(phone)))
        answers = await client.people_of(spellings)
        if isinstance(answers, Refused | NotConnected):
            return answers
        # The person who has the number as it is written; only when nobody has, the one who has its other spelling.
        told = {
            phone: next((found for one in spellings_of(phone) if (found := answers[one]) is not None), None)
            for phone in spellings
        }
        self._keep(session, told)
        try:
            await self._memory.learn(session, told)
        except _TROUBLE as error:
            # WhatsApp is asked again another time; the send need not wait for that.
            log.warning("numbers_not_learned", session_id=str(session), error=type(error).__name__)
        return {**known, **{phone: told[phone] for phone in unknown}}

    async def _recalled(self, session: ConnectionId, phones: Sequence[str]) -> dict[str, Person | None]:
        now = self._clock()
        own = {phone: kept[0] for phone in phones if (kept := self._own.get((session, phone))) and now < kept[1]}
        missing = [phone for phone in phones if phone not in own]
        if not missing:
            return dict(own)
        try:
            learned = await self._memory.recall(session, missing)
        except _TROUBLE as error:
            log.warning("numbers_not_recalled", session_id=str(session), error=type(error).__name__)
            learned = {}
        self._keep(session, learned)
        return {**own, **learned}

    def _keep(self, session: ConnectionId, answers: Answers) -> None:
        """In this process too; not that nobody has a number, which a message that comes in may disprove."""
        for phone, person in answers.items():
            if person is None:
                self._own.pop((session, phone), None)
                continue
            self._own[session, phone] = (person, self._clock() + _OWN_MEMORY_S)
            self._own.move_to_end((session, phone))
        while len(self._own) > _KEPT:
            self._own.popitem(last=False)

    async def _numbers_of(self, lid: str) -> dict[str, str]:
        try:
            return await self._aliases.numbers_of([lid])
        except Unavailable as error:
            log.warning("alias_not_looked_up", error=type(error).__name__)
            return {}
