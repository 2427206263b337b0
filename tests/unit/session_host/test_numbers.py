"""Who a message goes to: what is asked of WhatsApp, what is remembered, and how many numbers a check may ask about."""

import asyncio
from itertools import count
from typing import Any, cast
from uuid import uuid4

import pytest

from session_host.numbers import CHECKS_PER_MINUTE, KnownNumbers
from session_host.whatsapp.port import WhatsAppClient
from shared.domain.ids import ConnectionId
from shared.domain.jid import Person
from shared.hosts.protocol import NotConnected, Refused, Send
from tests.contract.hosts.simulated_host import SharedMemory

SESSION, OTHER = ConnectionId(uuid4()), ConnectionId(uuid4())
# One person, registered before the 9 came, and numbers that nobody has.
WITH_9, WITHOUT_9 = "5511987654321", "551187654321"
NOBODY = "15550000000"
LIMITED = Refused(code="RATE_OVERLIMIT", detail="WhatsApp limits this number for now.", retry_after_s=60)


def jid(phone: str) -> str:
    return f"{phone}@s.whatsapp.net"


class Client:
    """WhatsApp, as far as it is asked about numbers."""

    def __init__(self) -> None:
        self.people: dict[str, Person | None] = {NOBODY: None}
        self.asked: list[tuple[str, ...]] = []
        self.fails: NotConnected | Refused | None = None

    async def people_of(self, phones: tuple[str, ...]) -> dict[str, Person | None] | NotConnected | Refused:
        if self.fails is not None:
            return self.fails
        self.asked.append(phones)
        await asyncio.sleep(0)  # whoever else asks has a turn
        return {phone: self.people.get(phone, Person(jid(phone), f"9{phone}@lid")) for phone in phones}


class Aliases:
    def __init__(self) -> None:
        self.numbers = {f"9{WITHOUT_9}@lid": jid(WITHOUT_9)}

    async def numbers_of(self, lids: list[str]) -> dict[str, str]:
        return {lid: self.numbers[lid] for lid in lids if lid in self.numbers}


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.memory = SharedMemory()
        self.client = Client()
        self.numbers = self.process()
        self._next = count(15551000000)

    def process(self) -> KnownNumbers:
        """A host process that knows nothing by itself."""
        return KnownNumbers(self.memory, Aliases(), lambda: self.now)

    def phones(self, how_many: int) -> list[str]:
        """Numbers that nobody has asked about."""
        return [str(next(self._next)) for _ in range(how_many)]

    def command(self, to: str, *, session: ConnectionId = SESSION) -> Send:
        return Send(
            connection_id=session,
            message_id=uuid4(),
            send_no=1,
            secret=bytes(32),
            epoch=1,
            to=to,
            type="text",
            payload={"text": "hello"},
        )

    async def address(self, command: Send, *, by: KnownNumbers | None = None) -> str | Refused | NotConnected:
        return await (by or self.numbers).address(cast("WhatsAppClient", self.client), command)

    async def check(self, phones: list[str], *, session: ConnectionId = SESSION) -> Any:
        return await self.numbers.check(cast("WhatsAppClient", self.client), phones, session=session)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("written", [WITH_9, WITHOUT_9])
async def test_both_spellings_are_asked_at_once_and_the_message_goes_to_the_one_that_whatsapp_names(
    world: World, written: str
) -> None:
    old = Person(jid(WITHOUT_9), f"9{WITHOUT_9}@lid")
    world.client.people |= {WITH_9: None, WITHOUT_9: old}
    command = world.command(jid(written))

    assert await world.address(command) == jid(WITHOUT_9)

    assert [sorted(asked) for asked in world.client.asked] == [sorted((WITH_9, WITHOUT_9))]
    assert world.memory.known == {(SESSION, WITH_9): old, (SESSION, WITHOUT_9): old}
    assert world.memory.readdressed == ({} if written == WITHOUT_9 else {command.message_id: jid(WITHOUT_9)})


async def test_whatsapps_own_correction_of_a_spelling_is_taken(world: World) -> None:
    world.client.people |= dict.fromkeys((WITH_9, WITHOUT_9), Person(jid(WITHOUT_9)))

    assert await world.address(world.command(jid(WITH_9))) == jid(WITHOUT_9)


async def test_where_both_spellings_are_somebodys_it_goes_to_the_one_that_was_written(world: World) -> None:
    assert await world.address(world.command(jid(WITH_9))) == jid(WITH_9)
    assert await world.address(world.command(jid(WITHOUT_9))) == jid(WITHOUT_9)


async def test_a_number_is_asked_about_once_whichever_process_sends(world: World) -> None:
    for by in (world.numbers, world.numbers, world.process()):
        assert await world.address(world.command(jid(WITH_9)), by=by) == jid(WITH_9)

    assert len(world.client.asked) == 1


async def test_nobodys_number_is_refused_for_good_and_asked_about_once(world: World) -> None:
    for _ in range(2):
        refused = await world.address(world.command(jid(NOBODY)))
        assert isinstance(refused, Refused)
        assert (refused.code, refused.permanent) == ("NUMBER_NOT_ON_WHATSAPP", True)

    assert world.client.asked == [(NOBODY,)]


@pytest.mark.parametrize("fails", [NotConnected(), LIMITED])
async def test_a_question_that_fails_is_neither_an_answer_nor_remembered(
    world: World, fails: NotConnected | Refused
) -> None:
    world.client.fails = fails
    assert await world.address(world.command(jid(WITH_9))) == fails

    world.client.fails = None
    assert await world.address(world.command(jid(WITH_9))) == jid(WITH_9)


async def test_an_alias_goes_to_its_number_where_that_is_known(world: World) -> None:
    known, unknown = world.command(f"9{WITHOUT_9}@lid"), world.command("12345@lid")

    assert await world.address(known) == jid(WITHOUT_9)
    assert await world.address(unknown) == "12345@lid"
    assert world.memory.readdressed == {known.message_id: jid(WITHOUT_9)}
    assert await world.address(world.command("120363000000000001@g.us")) == "120363000000000001@g.us"
    assert world.client.asked == []


async def test_a_number_of_which_whatsapp_tells_the_alias_alone_keeps_the_chat_that_was_written(world: World) -> None:
    world.client.people |= {"15551112222": Person("12345@lid", "12345@lid")}

    assert await world.address(world.command(jid("15551112222"))) == "12345@lid"
    assert world.memory.readdressed == {}


async def test_without_the_database_whatsapp_is_asked_and_only_a_new_address_must_wait(world: World) -> None:
    world.memory.is_away = True
    assert await world.address(world.command(jid(WITH_9))) == jid(WITH_9)

    world.client.people |= {"5511987650000": None, "551187650000": Person(jid("551187650000"))}
    refused = await world.address(world.command(jid("5511987650000")))

    assert isinstance(refused, Refused)
    assert not refused.permanent


async def test_what_whatsapp_refuses_later_is_asked_anew_and_refused_for_good_only_when_nobody_has_it(
    world: World,
) -> None:
    world.client.people |= {WITH_9: None, WITHOUT_9: Person(jid(WITHOUT_9))}
    command, gone = world.command(jid(WITH_9)), Refused(code="NUMBER_NOT_ON_WHATSAPP", detail="", permanent=True)
    assert await world.address(command) == jid(WITHOUT_9)

    world.client.people |= {WITH_9: Person(jid(WITH_9)), WITHOUT_9: None}
    assert not (await world.numbers.refused(command, gone)).permanent
    assert await world.address(command) == jid(WITH_9)

    world.client.people |= {WITH_9: None}
    await world.numbers.refused(command, gone)
    assert await world.address(command) == gone.model_copy(update={"detail": "This number is not on WhatsApp."})
    assert (await world.numbers.refused(world.command("12345@lid"), gone)).permanent


async def test_a_recipient_is_named_as_it_is_remembered_and_nobody_is_asked(world: World) -> None:
    world.memory.known[SESSION, WITH_9] = Person(jid(WITHOUT_9))

    assert await world.numbers.named(SESSION, jid(WITH_9)) == jid(WITHOUT_9)
    assert await world.numbers.named(OTHER, jid(WITH_9)) == jid(WITH_9)
    assert world.client.asked == []


async def test_a_send_asks_nothing_that_a_check_has_asked(world: World) -> None:
    checked = await world.check([NOBODY, WITH_9])

    assert checked == {NOBODY: None, WITH_9: Person(jid(WITH_9), f"9{WITH_9}@lid")}
    assert isinstance(await world.address(world.command(jid(NOBODY))), Refused)
    assert await world.address(world.command(jid(WITHOUT_9))) == jid(WITHOUT_9)
    assert len(world.client.asked) == 1


async def test_a_minutes_numbers_may_be_checked_at_once_and_then_as_many_a_minute(world: World) -> None:
    known = world.phones(CHECKS_PER_MINUTE)
    await world.check(known)

    refused = await world.check(world.phones(1))
    world.now += refused.retry_after_s

    assert isinstance(refused, Refused)
    assert refused.code == "RATE_LIMITED"
    assert isinstance(await world.check(known), dict)
    assert isinstance(await world.check(world.phones(1)), dict)
    assert isinstance(await world.check(world.phones(1)), Refused)


async def test_more_than_a_minutes_numbers_pass_after_a_rest_and_are_paid_off(world: World) -> None:
    assert isinstance(await world.check(world.phones(100)), dict)

    refused = await world.check(world.phones(100))
    assert isinstance(refused, Refused)
    assert refused.retry_after_s is not None
    world.now += refused.retry_after_s

    assert isinstance(await world.check(world.phones(100)), dict)


async def test_each_session_has_its_own_minute(world: World) -> None:
    await world.check(world.phones(100))

    assert isinstance(await world.check(world.phones(1), session=OTHER), dict)


async def test_what_was_not_asked_costs_nothing(world: World) -> None:
    world.client.fails = NotConnected()
    assert await world.check(world.phones(100)) == NotConnected()

    world.client.fails = None
    assert isinstance(await world.check(world.phones(100)), dict)


async def test_checks_at_the_same_moment_share_the_quota(world: World) -> None:
    answers = await asyncio.gather(*(world.check(world.phones(CHECKS_PER_MINUTE)) for _ in range(5)))

    assert [isinstance(answer, Refused) for answer in answers] == [False, True, True, True, True]
    assert [len(asked) for asked in world.client.asked] == [CHECKS_PER_MINUTE]
