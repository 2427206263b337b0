"""What is remembered of numbers, and how many a check may ask WhatsApp about."""

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any, cast
from uuid import uuid4

import pytest

from session_host.numbers import CHECKS_PER_MINUTE, KnownNumbers
from session_host.whatsapp.port import WhatsAppClient
from shared.domain.ids import ConnectionId
from shared.hosts.protocol import NotConnected, Refused

SESSION, OTHER = ConnectionId(uuid4()), ConnectionId(uuid4())
NOBODY = "5511999990000"


class Client:
    """WhatsApp, as far as it is asked about numbers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_online = True

    async def jids_of(self, phones: tuple[str, ...]) -> Mapping[str, str | None] | NotConnected:
        if not self.is_online:
            return NotConnected()
        self.asked += phones
        await asyncio.sleep(0)  # whoever else asks has a turn
        return {phone: None if phone == NOBODY else f"{phone}@s.whatsapp.net" for phone in phones}


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.numbers = KnownNumbers(lambda: self.now)
        self.client = Client()
        self._next = count(5511900000000)

    def phones(self, how_many: int) -> list[str]:
        """Numbers that nobody has asked about."""
        return [str(next(self._next)) for _ in range(how_many)]

    async def check(self, phones: list[str], *, session: ConnectionId = SESSION) -> Any:
        return await self.numbers.check(cast("WhatsAppClient", self.client), phones, session=session)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_number_that_is_there_is_remembered_for_a_day_one_that_is_not_for_five_minutes(world: World) -> None:
    phone = "5511999990001"

    first = await world.check([phone, NOBODY])
    again = await world.check([phone, NOBODY])
    world.now += 301
    later = await world.check([phone, NOBODY])

    assert first == again == later == {phone: f"{phone}@s.whatsapp.net", NOBODY: None}
    assert world.client.asked == [phone, NOBODY, NOBODY]


async def test_a_send_asks_nothing_that_a_check_has_asked(world: World) -> None:
    await world.check([NOBODY])

    assert await world.numbers.jid_of(cast("WhatsAppClient", world.client), NOBODY) is None
    assert world.client.asked == [NOBODY]


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
    world.client.is_online = False
    assert await world.check(world.phones(100)) == NotConnected()

    world.client.is_online = True
    assert isinstance(await world.check(world.phones(100)), dict)


async def test_checks_at_the_same_moment_share_the_quota(world: World) -> None:
    answers = await asyncio.gather(*(world.check(world.phones(CHECKS_PER_MINUTE)) for _ in range(5)))

    assert [isinstance(answer, Refused) for answer in answers] == [False, True, True, True, True]
    assert len(world.client.asked) == CHECKS_PER_MINUTE
