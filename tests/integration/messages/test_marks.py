"""What a message shows of others that mean it, and how they are found, stored and refused."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from functions import message_receive, references
from functions.resources import Resources
from shared.db import connections, messages, writes
from shared.db.pool import Pool, open_pool
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, MessageId
from shared.domain.jobs import Job, QueueName
from shared.domain.outcome import Discard, Done, Retry
from shared.hosts.protocol import Refused

OWN = "5511900000000@s.whatsapp.net"
ANA, BIA = "5511900000001@s.whatsapp.net", "5511900000002@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """One connection; messages come in a second apart."""

    pool: Pool
    session: ConnectionId
    wire_ids: "count[int]"

    async def comes_in(
        self, type_: str, content: dict[str, Any], *, sender: str = ANA, chat: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """What is stored of it, as the API shows it."""
        outcome = await self.receive(self.job(type_, content, sender=sender, chat=chat, **more))
        assert isinstance(outcome, Done), outcome
        async with self.pool.acquire() as connection, connection.transaction():
            await writes.apply(connection, outcome.writes)
            [write] = outcome.writes
            return (await messages.objects(connection, [cast("Any", write).message_id]))[cast("Any", write).message_id]

    def job(
        self, type_: str, content: dict[str, Any], *, sender: str = ANA, chat: str | None = None, **more: Any
    ) -> Job:
        number = next(self.wire_ids)
        at = int((BEGAN + timedelta(seconds=number)).timestamp() * 1000)
        data = {
            "sessionId": str(self.session),
            "waMessageId": f"3A{number:04}",
            "chat": chat or sender,
            "chatAlias": None,
            "from": sender,
            "participant": sender if chat == GROUP else None,
            "pushName": None,
            "fromMe": sender == OWN,
            "type": type_,
            "content": content,
            "timestamp": at,
            **more,
        }
        return Job(
            pk=number,
            fence=1,
            job_id=f"job-{number}",
            queue=QueueName.MESSAGE_RECEIVE,
            name="receive-message",
            data=data,
            attempt=1,
            max_attempts=4,
            stalled=0,
            group=str(self.session),
            order_key=None,
            priority=7,
            created_at=BEGAN,
        )

    async def receive(self, job: Job) -> Any:
        use = cast("Resources", SimpleNamespace(pool=self.pool))
        [outcome] = await message_receive.handle([job], use)
        return outcome

    async def shown(self, message: dict[str, Any]) -> dict[str, Any]:
        async with self.pool.acquire() as connection:
            found = await connection.fetchval(
                "SELECT message_object(m) FROM messages m WHERE id = $1::uuid", message["id"]
            )
        return cast("dict[str, Any]", found)

    async def ours(
        self, type_: str, payload: dict[str, Any], *, wire_id: str | None = None, chat: str = ANA, status: str = "sent"
    ) -> MessageId:
        """A message of the API's, as it is once it left (or has not: no wire id)."""
        message_id = MessageId(uuid4())
        await self.pool.execute(
            "INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, type, payload, "
            "status, wa_message_id, sender_jid) VALUES ($1, $2, $3, 'outbound', 'api', true, $4, $5, $6, $7, $8, $9)",
            message_id,
            self.session,
            f"mine-{message_id}",
            chat,
            type_,
            payload,
            status,
            wire_id,
            OWN,
        )
        return message_id


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    pool = await open_pool(database_url, max_size=4)
    session = ConnectionId(uuid4())
    async with pool.acquire() as connection:
        await connections.insert(
            connection, session, tenant_id=DEFAULT_TENANT, label="shop", external_id=None, config={}, metadata={}
        )
        await connection.execute("UPDATE connections SET jid = $2 WHERE id = $1", session, OWN)
    yield World(pool, session, count(1))
    await pool.close()


async def test_of_each_persons_reactions_the_newest_counts_and_an_empty_one_takes_it_back(world: World) -> None:
    message = await world.comes_in("text", {"text": "hi"}, sender=ANA, chat=GROUP)
    named = {"message_id": message["wa_message_id"]}

    for sender, emoji in ((ANA, "👍"), (BIA, "👍"), (ANA, "❤"), (BIA, "")):
        await world.comes_in("reaction", {**named, "emoji": emoji}, sender=sender, chat=GROUP)

    assert [(one["from"], one["emoji"]) for one in (await world.shown(message))["reactions"]] == [(ANA, "❤")]


async def test_what_means_a_message_may_be_stored_before_it(world: World) -> None:
    await world.comes_in("reaction", {"message_id": "3EB0AA", "emoji": "👍"})
    await world.ours("text", {"text": "hi"}, wire_id="3EB0AA")

    shown = await world.pool.fetchval("SELECT message_object(m) FROM messages m WHERE wa_message_id = '3EB0AA'")

    assert [one["from"] for one in shown["reactions"]] == [ANA]


async def test_only_its_writer_edits_a_message_and_nobody_elses_word_revokes_it(world: World) -> None:
    await world.ours("text", {"text": "ours"}, wire_id="3EB0AA")
    theirs = await world.comes_in("text", {"text": "theirs"})
    for wire_id, sender in (("3EB0AA", ANA), (theirs["wa_message_id"], BIA)):
        await world.comes_in("edit", {"message_id": wire_id, "text": "forged"}, sender=sender)
        await world.comes_in("revoke", {"message_id": wire_id}, sender=sender)

    shown = await world.pool.fetch("SELECT message_object(m) AS o FROM messages m WHERE type = 'text'")

    assert [(one["o"]["edited"], one["o"]["revoked_at"]) for one in shown] == [(None, None)] * 2


async def test_in_a_group_an_admin_revokes_what_another_wrote(world: World) -> None:
    message = await world.comes_in("text", {"text": "rude"}, sender=ANA, chat=GROUP)

    await world.comes_in("revoke", {"message_id": message["wa_message_id"]}, sender=BIA, chat=GROUP)

    assert (await world.shown(message))["revoked_at"] is not None


async def test_the_newest_edit_shows_and_the_payload_stays_as_it_was(world: World) -> None:
    message = await world.comes_in("text", {"text": "one"})
    for text in ("two", "three"):
        await world.comes_in("edit", {"message_id": message["wa_message_id"], "text": text})

    shown = await world.shown(message)

    assert (shown["payload"], shown["edited"]["text"]) == ({"text": "one"}, "three")


@pytest.mark.parametrize(
    ("hashes", "options"),
    [
        (["now"], ["now"]),
        (["later", "now"], ["later", "now"]),
        ([], []),
        (["never offered"], []),
        (None, None),
    ],
)
async def test_a_vote_names_its_options(world: World, hashes: list[str] | None, options: list[str] | None) -> None:
    await world.ours("poll", {"question": "When?", "options": ["now", "later"]}, wire_id="3EB0AA")
    hashed = None if hashes is None else [sha256(one.encode()).hexdigest() for one in hashes]

    vote = await world.comes_in("poll_vote", {"message_id": "3EB0AA", "option_hashes": hashed})

    assert vote["payload"] == {"message_id": "3EB0AA", "options": options}


async def test_a_vote_in_a_poll_that_is_not_recorded_yet_waits_for_it_and_is_kept_in_any_case(world: World) -> None:
    job = world.job("poll_vote", {"message_id": "3EB0AA", "option_hashes": ["00"]})

    first = await world.receive(job)
    last = await world.receive(replace(job, attempt=3))

    assert isinstance(first, Retry)
    assert isinstance(last, Done)
    assert cast("Any", last.writes[0]).payload == {"message_id": "3EB0AA", "options": None, "option_hashes": ["00"]}


async def test_data_that_are_wrong_spoil_no_other_message(world: World) -> None:
    use = cast("Resources", SimpleNamespace(pool=world.pool))
    good = world.job("text", {"text": "hi"})
    bad = [
        replace(good, data={}),
        replace(good, data={**good.data, "type": "poll_vote", "content": {}}),
        replace(good, data={**good.data, "content": None}),
    ]

    outcomes = await message_receive.handle([*bad, good], use)

    assert [type(one) for one in outcomes] == [Discard, Discard, Discard, Done]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A message that is about to be sent."""

    connection_id: ConnectionId
    type: str = "text"
    payload: Any = None
    reply_to: str | None = None
    jid: str = ANA
    id: MessageId = field(default_factory=lambda: MessageId(uuid4()))


@pytest.mark.parametrize(
    ("status", "permanent"), [("queued", False), ("failed", False), ("unknown", False), ("dlq", True)]
)
async def test_a_message_that_is_not_on_the_wire_is_waited_for_unless_it_never_will_be(
    world: World, status: str, permanent: bool
) -> None:
    target = await world.ours("text", {"text": "hi"}, status=status)
    wanted = Wanted(connection_id=world.session, type="reaction", payload={"message_id": str(target), "emoji": "👍"})

    refused = await references.resolve(world.pool, wanted)

    assert isinstance(refused, Refused)
    assert (refused.code, refused.permanent) == ("TARGET_NOT_SENT", permanent)


@pytest.mark.parametrize(
    ("type_", "target_type", "target_chat", "says"),
    [
        ("reaction", "text", BIA, "another chat"),
        ("edit", "image", ANA, "Only a text"),
        ("edit", "text", BIA, "another chat"),
    ],
)
async def test_what_every_phone_would_ignore_is_refused(
    world: World, type_: str, target_type: str, target_chat: str, says: str
) -> None:
    target = await world.ours(target_type, {}, wire_id="3EB0AA", chat=target_chat)
    payload = {"message_id": str(target), "emoji": "👍", "text": "x"}

    refused = await references.resolve(world.pool, Wanted(connection_id=world.session, type=type_, payload=payload))

    assert isinstance(refused, Refused)
    assert refused.permanent
    assert says in refused.detail


async def test_another_spelling_of_a_number_is_the_same_chat_and_a_reply_may_come_from_another(world: World) -> None:
    target = await world.ours("text", {"text": "hi"}, wire_id="3EB0AA", chat="5511987654321@s.whatsapp.net")
    payload = {"message_id": str(target), "emoji": "👍"}
    spelled = Wanted(connection_id=world.session, type="reaction", payload=payload, jid="551187654321@s.whatsapp.net")
    reply = Wanted(connection_id=world.session, payload={"text": "privately"}, reply_to=str(target), jid=BIA)

    same = await references.resolve(world.pool, spelled)
    other = await references.resolve(world.pool, reply)

    assert not isinstance(same, Refused)
    assert same.payload["message_id"] == "3EB0AA"
    assert not isinstance(other, Refused)
    assert other.reply_to is not None
    assert (other.reply_to.chat_jid, other.reply_to.text) == ("5511987654321@s.whatsapp.net", "hi")
