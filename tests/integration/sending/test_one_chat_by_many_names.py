"""A chat that is held back is held back under each of its names: both spellings of a number, and its alias."""

from uuid import UUID

import pytest

from shared.db import known_numbers
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, MessageId
from shared.domain.jid import Person, parse_jid
from shared.hosts import protocol
from shared.queues import sends
from tests.integration.sending.conftest import Office, sent
from tests.integration.sending.test_paces import RESTRICTED, Desk, inbound

WITH_9, WITHOUT_9, ALIAS = "5511999990001@s.whatsapp.net", "551199990001@s.whatsapp.net", "77001@lid"
NUMBERS = (
    *("5511999990001", "551199990001", "551133334444", "5521933334444", "551160000000", "5511059999999"),
    *("5215512345678", "525512345678", "5491123456789", "541123456789", "15550001111", "55119999900012"),
)


@pytest.fixture
async def desk(office: Office) -> Desk:
    return Desk(office, await office.session())


def name_it(desk: Desk, jid: str, *, restricted: int = 1_000_000) -> None:
    """The host writes down under which name WhatsApp knows the chat; its first so many messages are refused."""
    left = [restricted]

    async def answer(command: protocol.Send) -> protocol.SendAnswer:
        async with desk.office.queues.pool.acquire() as connection:
            await known_numbers.readdress(connection, command.message_id, jid)
        if left[0]:
            left[0] -= 1
            return RESTRICTED
        return sent(command)

    desk.office.host.on_send = answer


async def tell_alias(desk: Desk) -> None:
    async with desk.office.queues.transaction() as tx:
        told = {"551199990001": Person(WITHOUT_9, ALIAS)}
        await known_numbers.learn(tx.connection, ConnectionId(UUID(desk.session)), told)


async def restrict(desk: Desk, jid: str, *, named: str) -> MessageId:
    name_it(desk, named)
    message = await desk.message(jid, order=False)
    await desk.office.drain()
    assert await desk.waits(message) == [("queued", "chat_restricted")]
    return message


async def test_a_restricted_chat_waits_however_its_number_is_written(desk: Desk) -> None:
    first = await restrict(desk, WITH_9, named=WITHOUT_9)
    await tell_alias(desk)

    others = [await desk.message(jid, order=False) for jid in (WITH_9, WITHOUT_9, ALIAS)]
    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(*others) == [("queued", "chat_restricted")] * 3


async def test_its_rest_grows_and_ends_under_the_name_that_whatsapp_gave_it(desk: Desk) -> None:
    message = await restrict(desk, WITH_9, named=WITHOUT_9)

    await desk.pass_time(3601)
    await desk.office.drain()
    await desk.pass_time(3601)
    await desk.office.drain()
    assert desk.sent == [message] * 2

    name_it(desk, WITHOUT_9, restricted=0)
    async with desk.office.queues.transaction() as tx:
        await tx.apply([inbound(desk, WITHOUT_9, number=1, from_me=False)])
    await desk.office.drain()
    assert desk.sent == [message] * 3
    assert await desk.office.status(message) == "sent"
    assert await desk.office.queues.pool.fetchval("SELECT refusals FROM chat_holds") == 0


async def test_a_person_lets_it_be_tried_by_a_message_to_any_of_its_names(desk: Desk) -> None:
    first = await restrict(desk, WITH_9, named=WITHOUT_9)
    second = await desk.message(WITH_9, order=False)
    await desk.office.drain()

    name_it(desk, WITHOUT_9, restricted=0)
    async with desk.office.queues.transaction() as tx:
        await sends.retry(tx, second, tenant_id=DEFAULT_TENANT, allowed=None, default_ttl_s=60)
    await desk.office.drain()

    assert set(desk.sent[1:]) == {first, second}


async def test_a_chat_that_is_restricted_under_its_alias_stays_so_once_its_number_is_told(desk: Desk) -> None:
    first = await restrict(desk, ALIAS, named=ALIAS)
    await tell_alias(desk)

    second = await desk.message(WITH_9, order=False)
    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(first, second) == [("queued", "chat_restricted")] * 2


async def test_the_gap_of_a_chat_is_kept_however_its_number_is_written(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "min_gap_seconds": 30})
    await tell_alias(desk)
    name_it(desk, WITHOUT_9, restricted=0)
    first = await desk.message(WITH_9, order=False)
    await desk.office.drain()
    others = [await desk.message(jid, order=False) for jid in (WITHOUT_9, ALIAS)]

    await desk.pass_time(1)
    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(*others) == [("queued", "rate_limited")] * 2


async def test_the_database_names_a_chat_by_the_same_rule_as_the_code(desk: Desk) -> None:
    jids = [f"{number}@s.whatsapp.net" for number in NUMBERS] + [ALIAS, "5511999990001-1500000000@g.us"]

    keys = await desk.office.queues.pool.fetch("SELECT chat_key_v1(j) AS key FROM unnest($1::text[]) j", jids)

    assert [row["key"] for row in keys] == [parse_jid(jid).chat_key for jid in jids]
    assert {len(key["key"]) < len(jid) for key, jid in zip(keys, jids, strict=True)} == {True, False}
