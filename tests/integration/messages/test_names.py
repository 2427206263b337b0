"""What is remembered of numbers and aliases, for how long, and that one person's chat is one under either name."""

from typing import Any
from uuid import uuid4

import pytest

from functions import references
from shared.db import known_numbers, retention, writes
from shared.domain.ids import ConnectionId, MessageId, WireId
from shared.domain.jid import Person, parse_jid
from shared.domain.media import MediaId
from shared.domain.outcome import Done
from shared.domain.writes import ExpectMedia
from shared.hosts.protocol import Refused
from tests.integration.messages.test_marks import GROUP, OWN, Wanted, World, world

__all__ = ["world"]

ANA, ANAS_LID = "551187654321@s.whatsapp.net", "184467440737095@lid"
WITH_9, WITHOUT_9 = "5511987654321", "551187654321"
BIA, BIAS_LID = "15550001111@s.whatsapp.net", "99887766554433@lid"

# Ana in her own chat and Bia in a group: by the alias alone, and by both names as either stanza gives them.
ALONE = {"sender": ANAS_LID, "senderAlias": ANAS_LID}
BOTH = {"sender": ANA, "chatAlias": ANAS_LID, "senderAlias": ANAS_LID}
IN_GROUP_ALONE = {"sender": BIAS_LID, "chat": GROUP, "senderAlias": BIAS_LID}
IN_GROUP_BOTH = {"sender": BIA, "chat": GROUP, "senderAlias": BIAS_LID}


async def comes_in(world: World, wire_id: str, **named: Any) -> None:
    outcome = await world.receive(world.job("text", {"text": wire_id}, waMessageId=wire_id, **named))
    assert isinstance(outcome, Done)
    async with world.pool.acquire() as connection, connection.transaction():
        await writes.apply(connection, outcome.writes)


async def stored(world: World) -> list[dict[str, Any]]:
    rows = await world.pool.fetch("SELECT message_object(m) AS object FROM messages m ORDER BY wa_timestamp")
    return [row["object"] for row in rows]


async def grow_old(world: World, **by: float) -> None:
    await world.pool.execute("UPDATE known_numbers SET asked_at = asked_at - make_interval(days => $1)", by["days"])


@pytest.mark.parametrize(
    ("first", "second"),
    [(ALONE, BOTH), (BOTH, ALONE), (BOTH, BOTH), (IN_GROUP_ALONE, IN_GROUP_BOTH), (IN_GROUP_BOTH, IN_GROUP_ALONE)],
)
async def test_a_message_that_comes_under_either_name_is_stored_and_told_of_once(
    world: World, first: dict[str, Any], second: dict[str, Any]
) -> None:
    await comes_in(world, "3AONCE", **first)
    await comes_in(world, "3AONCE", **second)

    assert len(await stored(world)) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM events WHERE type = 'message.received'") == 1


async def test_what_came_under_the_alias_alone_is_in_the_numbers_chat_once_both_are_told(world: World) -> None:
    await comes_in(world, "3A1", **ALONE)
    assert [(one["jid"], one["phone"], one["lid"]) for one in await stored(world)] == [(ANAS_LID, None, ANAS_LID)]

    await comes_in(world, "3A2", **BOTH)
    await comes_in(world, "3A3", **ALONE)

    assert [(one["jid"], one["phone"], one["lid"], one["from"]) for one in await stored(world)] == [
        (ANA, WITHOUT_9, ANAS_LID, ANA)
    ] * 3
    async with world.pool.acquire() as connection:
        for name in (ANA, ANAS_LID, f"{WITH_9}@s.whatsapp.net"):
            assert {ANA, ANAS_LID} <= set(await known_numbers.names_of(connection, world.session, parse_jid(name)))


async def test_a_groups_writer_has_both_names_once_they_are_told_and_the_group_has_none(world: World) -> None:
    await comes_in(world, "3A1", **IN_GROUP_ALONE)
    [before] = await stored(world)
    await comes_in(world, "3A2", **IN_GROUP_BOTH)
    await comes_in(world, "3A3", **IN_GROUP_ALONE)

    assert (before["participant"], before["participant_lid"], before["from"]) == (BIAS_LID, BIAS_LID, BIAS_LID)
    names = ("participant", "participant_lid", "from", "lid", "jid")
    assert [tuple(one[name] for name in names) for one in await stored(world)] == [
        (BIA, BIAS_LID, BIA, None, GROUP)
    ] * 3


async def test_an_answer_is_remembered_for_its_time_and_per_connection(world: World) -> None:
    session, person = world.session, Person(ANA, ANAS_LID)
    async with world.pool.acquire() as connection:
        await known_numbers.learn(connection, session, {WITH_9: person, WITHOUT_9: person, "15550000000": None})
        everything = await known_numbers.recall(connection, session, [WITH_9, WITHOUT_9, "15550000000", "1555"])

        assert everything == {WITH_9: person, WITHOUT_9: person, "15550000000": None}
        assert await known_numbers.recall(connection, ConnectionId(uuid4()), [WITH_9]) == {}

        await grow_old(world, days=1)
        assert await known_numbers.recall(connection, session, [WITH_9, "15550000000"]) == {WITH_9: person}

        await grow_old(world, days=29)
        assert await known_numbers.recall(connection, session, [WITH_9]) == {}

        await known_numbers.learn(connection, session, {WITH_9: None})
        assert await known_numbers.recall(connection, session, [WITH_9]) == {WITH_9: None}


async def test_who_writes_is_on_whatsapp_whatever_was_answered_before(world: World) -> None:
    async with world.pool.acquire() as connection:
        await known_numbers.learn(connection, world.session, {WITHOUT_9: None})

    await comes_in(world, "3A1", **BOTH)
    written = await world.pool.fetchval("SELECT xmin::text FROM known_numbers")
    await comes_in(world, "3A2", **BOTH)

    async with world.pool.acquire() as connection:
        assert await known_numbers.recall(connection, world.session, [WITHOUT_9]) == {WITHOUT_9: Person(ANA, ANAS_LID)}
    # Known for less than a day: not written again with every message.
    assert await world.pool.fetchval("SELECT xmin::text FROM known_numbers") == written


async def test_retention_lets_go_of_old_answers_and_of_nobodys_numbers_first(world: World) -> None:
    cleanup = retention.Deletion(retention._sql.known_numbers, known_numbers.PERSON_S)
    left = "SELECT array_agg(phone) FROM known_numbers"
    async with world.pool.acquire() as connection:
        await known_numbers.learn(connection, world.session, {WITH_9: Person(ANA), "15550000000": None})

        assert await retention.delete_batch(connection, cleanup) == 0
        await grow_old(world, days=2)
        assert await retention.delete_batch(connection, cleanup) == 1
        assert await connection.fetchval(left) == [WITH_9]
        await grow_old(world, days=29)
        assert await retention.delete_batch(connection, cleanup) == 1


async def test_a_message_is_readdressed_before_it_is_sent_and_only_if_it_is_the_apis(world: World) -> None:
    ours = await world.ours("text", {"text": "hi"}, chat=f"{WITH_9}@s.whatsapp.net", status="processing")
    await comes_in(world, "3A1", sender=BIA)
    theirs = MessageId(await world.pool.fetchval("SELECT id FROM messages WHERE wa_message_id = '3A1'"))

    async with world.pool.acquire() as connection:
        for message_id in (ours, ours, theirs):
            await known_numbers.readdress(connection, message_id, ANA)

    rows = await world.pool.fetch("SELECT jid, phone FROM messages ORDER BY jid")
    assert [tuple(row) for row in rows] == [(BIA, "15550001111"), (ANA, WITHOUT_9)]


async def test_a_file_that_came_under_the_alias_alone_is_expected_though_its_chat_is_renamed_meanwhile(
    world: World,
) -> None:
    file = MediaId(uuid4())
    outcomes = [
        await world.receive(world.job("text", {"text": "both names"}, waMessageId="3A1", **BOTH)),
        await world.receive(world.job("text", {"text": "", "media_id": str(file)}, waMessageId="3A2", **ALONE)),
    ]
    expected = ExpectMedia(
        media_id=file,
        connection_id=world.session,
        wire_id=WireId("3A2"),
        jid=ANAS_LID,
        sender_jid=ANAS_LID,
        mimetype="image/png",
        filename=None,
        sha256=None,
        size=None,
        source_sealed=b"sealed",
        keep_days=1,
    )

    async with world.pool.acquire() as connection, connection.transaction():
        await writes.apply(connection, [*(one for outcome in outcomes for one in outcome.writes), expected])

    assert [one["jid"] for one in await stored(world)] == [ANA, ANA]
    assert await world.pool.fetchval("SELECT state FROM media WHERE id = $1", file) == "pending"


async def test_what_is_meant_is_in_the_same_chat_under_either_name(world: World) -> None:
    await comes_in(world, "3A1", **BOTH)
    meaning = {"message_id": "3A1", "emoji": "👍"}

    async def resolved(jid: str) -> references.Resolved | Refused:
        wanted = Wanted(connection_id=world.session, type="reaction", payload=meaning, jid=jid)
        return await references.resolve(world.pool, wanted)

    assert isinstance(await resolved(ANAS_LID), references.Resolved)
    assert isinstance(await resolved(BIAS_LID), Refused)


async def test_what_the_phone_itself_wrote_is_once_in_the_contacts_chat(world: World) -> None:
    named = {"sender": OWN, "chat": ANA, "chatAlias": ANAS_LID}
    await comes_in(world, "3A1", **named)
    await comes_in(world, "3A1", **{**named, "chat": ANAS_LID, "chatAlias": None})

    assert [(one["jid"], one["from_me"], one["source"], one["from"]) for one in await stored(world)] == [
        (ANA, True, "phone", OWN)
    ]
