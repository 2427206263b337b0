"""What holds a message back, on a real database: restricted chats, WhatsApp's limits, pacing and quiet hours."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from functions.typist import Typist
from shared.db import paces as db_paces
from shared.db import retention, tries
from shared.db.hosts import Owner
from shared.db.tries import Start
from shared.domain.errors import Conflict
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, HostId, MessageId, WireId
from shared.domain.jobs import NewJob, QueueName
from shared.domain.writes import StoreFromWire
from shared.hosts import protocol
from shared.queues import paces, sends
from shared.queues.sweep import sweep
from tests.contract.hosts.simulated_host import until
from tests.integration.sending.conftest import Office, sent

ANA, RUI, EVA = (f"551199999000{n}@s.whatsapp.net" for n in (1, 2, 3))
RESTRICTED = protocol.Refused(code="CHAT_RESTRICTED", detail="463")
OWNER = Owner(host_id=HostId("h"), address="a", epoch=1, device_jid="d", status="connected")
LIMITED = protocol.Refused(code="RATE_OVERLIMIT", detail="429")

_SOONER = (
    "UPDATE jobs SET run_at = run_at - $1::interval WHERE state = 'delayed'",
    "UPDATE jobs SET expires_at = expires_at - $1::interval",
    "UPDATE chat_holds SET until = until - $1::interval",
    "UPDATE job_groups SET tat = tat - $1::interval",
    "UPDATE send_paces SET held_until = held_until - $1::interval, look_at = look_at - $1::interval",
)


class Desk:
    """Messages of one connection to several chats, in order, and the time that passes between drains."""

    def __init__(self, office: Office, session: str) -> None:
        self.office = office
        self.session = session

    async def message(self, to: str, *, order: bool = True, expires_in_s: float | None = None) -> MessageId:
        message = await self.office.message(self.session, job=False)
        pool = self.office.queues.pool
        await pool.execute("UPDATE messages SET jid = $2 WHERE id = $1", message, to)
        async with self.office.queues.transaction() as tx:
            [job] = await tx.enqueue(
                [
                    NewJob(
                        queue=QueueName.MESSAGE_SEND,
                        job_id=f"msg-{message}",
                        name="send",
                        data={"messageDbId": str(message), "sessionId": self.session},
                        group=self.session,
                        order_key=to if order else None,
                    )
                ]
            )
        await pool.execute("UPDATE messages SET job_pk = $2 WHERE id = $1", message, job.pk)
        if expires_in_s is not None:
            await pool.execute(
                "UPDATE jobs SET expires_at = now() + $2 * interval '1 second' WHERE pk = $1", job.pk, expires_in_s
            )
        return message

    async def config(self, **config: Any) -> None:
        """As a PATCH of the connection does."""
        async with self.office.queues.transaction() as tx:
            await tx.connection.execute("UPDATE connections SET config = $2 WHERE id = $1", self.session, config)
            await paces.fit(tx.connection, ConnectionId(UUID(self.session)))

    async def pass_time(self, seconds: float) -> None:
        """What is kept about the future comes so much sooner; then a sweep looks, as one does each second."""
        for sooner in _SOONER:
            await self.office.queues.pool.execute(sooner, timedelta(seconds=seconds))
        await self.sweep()

    async def sweep(self) -> None:
        async with self.office.queues.transaction() as tx:
            await sweep(tx.connection)
            await paces.fit_due(tx.connection)

    async def shown(self, message: MessageId) -> dict[str, Any]:
        found: dict[str, Any] = await self.office.queues.pool.fetchval(
            "SELECT message_object(m) FROM messages m WHERE id = $1", message
        )
        return found

    async def waits(self, *messages: MessageId) -> list[tuple[str, str | None]]:
        shown = [await self.shown(message) for message in messages]
        return [(one["status"], one["parked_reason"]) for one in shown]

    async def group(self) -> dict[str, Any]:
        row = await self.office.queues.pool.fetchrow("SELECT * FROM job_groups WHERE grp = $1", self.session)
        assert row is not None
        return dict(row)

    @property
    def sent(self) -> list[UUID]:
        return [one.message_id for one in self.office.host.sends]


@pytest.fixture
async def desk(office: Office) -> Desk:
    return Desk(office, await office.session())


def refuse(desk: Desk, answer: protocol.Refused, *, to: str | None = None, times: int = 1_000_000) -> None:
    """The host answers so, for this chat and so often; then everything is sent."""
    left = [times]

    async def answer_(command: protocol.Send) -> protocol.SendAnswer:
        if (to is None or command.to == to) and left[0]:
            left[0] -= 1
            return answer
        return sent(command)

    desk.office.host.on_send = answer_


async def test_a_restricted_chat_waits_alone_and_goes_on_in_order_when_its_time_has_come(desk: Desk) -> None:
    first, second = await desk.message(ANA), await desk.message(ANA)
    other = await desk.message(RUI)
    refuse(desk, RESTRICTED, to=ANA, times=1)

    await desk.office.drain()

    shown = await desk.shown(first)
    assert (shown["status"], shown["parked_reason"], shown["attempts"]) == ("queued", "chat_restricted", 0)
    assert shown["error"]["code"] == "CHAT_RESTRICTED"
    assert shown["next_attempt_at"] is not None
    told = await desk.office.queues.pool.fetchval("SELECT payload FROM events WHERE type = 'message.failed'")
    assert (told["id"], told["status"], told["parked_reason"]) == (str(first), "queued", "chat_restricted")
    assert await desk.waits(second, other) == [("queued", "behind_earlier_message"), ("sent", None)]
    assert desk.sent == [first, other]

    await desk.pass_time(3599)
    await desk.office.drain()
    assert desk.sent == [first, other]
    await desk.pass_time(2)
    await desk.office.drain()
    assert desk.sent == [first, other, first, second]
    after = await desk.shown(first)
    assert (after["status"], after["error"], after["parked_reason"], after["attempts"]) == ("sent", None, None, 1)


async def test_a_restricted_chat_rests_longer_each_time_and_costs_no_try(desk: Desk) -> None:
    message = await desk.message(ANA)
    refuse(desk, RESTRICTED)
    rests = []

    for _ in range(8):
        await desk.office.drain()
        rests.append(
            await desk.office.queues.pool.fetchval(
                "SELECT ceil(extract(epoch FROM until - now()) / 3600)::int FROM chat_holds"
            )
        )
        await desk.pass_time(rests[-1] * 3600 + 1)

    assert rests == [1, 2, 4, 6, 6, 6, 6, 6]
    assert (await desk.shown(message))["attempts"] == 0
    refuse(desk, RESTRICTED, times=0)
    await desk.office.drain()
    assert await desk.office.status(message) == "sent"
    assert await desk.office.queues.pool.fetchval("SELECT refusals FROM chat_holds") == 0


async def test_a_restricted_chat_holds_messages_without_an_order_too(desk: Desk) -> None:
    first = await desk.message(ANA, order=False)
    refuse(desk, RESTRICTED, to=ANA)
    await desk.office.drain()

    second = await desk.message(ANA, order=False)
    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(first, second) == [("queued", "chat_restricted")] * 2


async def test_a_person_has_a_restricted_chat_tried_now_from_any_of_its_messages(desk: Desk) -> None:
    first, second = await desk.message(ANA), await desk.message(ANA)
    refuse(desk, RESTRICTED, times=1)
    await desk.office.drain()

    async with desk.office.queues.transaction() as tx:
        again = await sends.retry(tx, second, tenant_id=DEFAULT_TENANT, allowed=None, default_ttl_s=60)
    await desk.office.drain()

    assert again.job.deduplicated
    assert desk.sent == [first, first, second]
    assert await desk.waits(first, second) == [("sent", None)] * 2


async def test_a_restricted_chat_is_tried_again_when_its_contact_writes(desk: Desk) -> None:
    message = await desk.message(ANA)
    refuse(desk, RESTRICTED, times=1)
    await desk.office.drain()

    for number, (chat, from_me) in enumerate(((RUI, False), (ANA, True), (ANA, False))):
        assert desk.sent == [message]
        async with desk.office.queues.transaction() as tx:
            await tx.apply([inbound(desk, chat, number=number, from_me=from_me)])
        await desk.office.drain()

    assert desk.sent == [message, message]
    assert await desk.office.status(message) == "sent"


def inbound(desk: Desk, chat: str, *, number: int, from_me: bool) -> StoreFromWire:
    return StoreFromWire(
        message_id=MessageId(uuid4()),
        connection_id=ConnectionId(UUID(desk.session)),
        wire_id=WireId(f"IN{number}"),
        jid=chat,
        phone=None,
        alias_jid=None,
        sender_jid=chat,
        participant=None,
        push_name=None,
        from_me=from_me,
        type="text",
        payload={"text": "hi"},
        at=datetime(2026, 1, 2, tzinfo=UTC),
        backfilled=False,
        event_type="message.received",
    )


async def test_what_waits_for_nothing_cannot_be_retried(desk: Desk) -> None:
    message = await desk.message(ANA)

    async with desk.office.queues.transaction() as tx:
        with pytest.raises(Conflict):
            await sends.retry(tx, message, tenant_id=DEFAULT_TENANT, allowed=None, default_ttl_s=60)


async def test_a_limit_of_whatsapp_stops_the_whole_session_then_it_goes_on_more_slowly_and_recovers(desk: Desk) -> None:
    first, second = await desk.message(ANA), await desk.message(RUI)
    refuse(desk, LIMITED, times=1)

    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(first, second) == [("queued", "rate_limited")] * 2
    shown = await desk.shown(first)
    assert (shown["error"]["code"], shown["attempts"], shown["next_attempt_at"]) == ("RATE_OVERLIMIT", 0, None)
    await desk.sweep()
    await desk.office.drain()
    assert desk.sent == [first]

    await desk.pass_time(61)
    await desk.office.drain()
    assert desk.sent == [first, first]
    assert ((await desk.group())["rate_per_minute"], (await desk.group())["burst"]) == (40, 1)
    assert await desk.waits(second) == [("queued", "rate_limited")]
    await desk.pass_time(2)
    await desk.office.drain()
    assert desk.sent == [first, first, second]

    await desk.pass_time(300)
    assert ((await desk.group())["rate_per_minute"], (await desk.group())["burst"]) == (None, None)
    assert await desk.office.queues.pool.fetchval("SELECT count(*) FROM send_paces") == 0


async def test_each_limit_on_top_of_another_holds_twice_as_long_and_halves_the_rate_again(desk: Desk) -> None:
    message = await desk.message(ANA)
    refuse(desk, LIMITED)
    holds, rates = [], []

    for _ in range(6):
        await desk.office.drain()
        holds.append(
            await desk.office.queues.pool.fetchval(
                "SELECT ceil(extract(epoch FROM held_until - now()) / 30)::int * 30 FROM send_paces"
            )
        )
        await desk.pass_time(holds[-1] + 1)
        rates.append((await desk.group())["rate_per_minute"])
        await desk.pass_time(60)

    assert holds == [60, 120, 240, 480, 480, 480]
    assert rates == [40, 20, 10, 5, 5, 5]
    assert (await desk.shown(message))["status"] == "queued"


async def test_a_refusal_that_may_pass_after_three_tries_is_final(desk: Desk) -> None:
    message = await desk.message(ANA)
    refuse(desk, protocol.Refused(code="WHATSAPP_REFUSED", detail="479", max_tries=3))

    for status in ("failed", "failed", "dlq"):
        await desk.office.drain()
        assert await desk.office.status(message) == status
        await desk.pass_time(200)

    shown = await desk.shown(message)
    assert (shown["error"]["code"], shown["error"]["retryable"], shown["attempts"]) == ("WHATSAPP_REFUSED", False, 3)


async def test_a_refusal_for_good_fails_at_once_and_lets_its_chat_go_on(desk: Desk) -> None:
    first, second = await desk.message(ANA), await desk.message(ANA)
    refuse(desk, protocol.Refused(code="WHATSAPP_REFUSED", detail="400", permanent=True), times=1)

    await desk.office.drain()

    assert [await desk.office.status(one) for one in (first, second)] == ["dlq", "sent"]


async def test_a_chat_is_written_to_again_only_after_its_gap_and_the_others_need_not_wait(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "min_gap_seconds": 30})
    first, second, third = await desk.message(ANA), await desk.message(ANA), await desk.message(RUI)

    await desk.office.drain()
    await desk.pass_time(1)
    await desk.office.drain()

    assert desk.sent == [first, third]
    assert await desk.waits(second) == [("queued", "rate_limited")]
    await desk.pass_time(30)
    await desk.office.drain()
    assert desk.sent == [first, third, second]


async def test_a_scheduled_message_that_is_due_says_that_its_chat_holds_it(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "min_gap_seconds": 30})
    first, second = await desk.message(ANA), await desk.message(ANA)
    await desk.office.queues.pool.execute(
        "UPDATE messages SET status = 'scheduled', send_at = now() WHERE id = $1", second
    )

    await desk.office.drain()
    await desk.pass_time(1)
    await desk.office.drain()

    assert await desk.waits(first, second) == [("sent", None), ("queued", "rate_limited")]
    await desk.config()
    await desk.office.drain()
    assert desk.sent == [first, second]


async def test_a_shorter_gap_counts_at_once_for_what_waits(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "min_gap_seconds": 3600})
    first, second = await desk.message(ANA), await desk.message(ANA)
    await desk.office.drain()
    await desk.pass_time(1)
    await desk.office.drain()

    await desk.config()
    await desk.office.drain()

    assert desk.sent == [first, second]


async def test_a_try_that_failed_is_not_held_by_its_own_gap(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "min_gap_seconds": 3600})
    message = await desk.message(ANA)
    refuse(desk, protocol.Refused(code="UNAVAILABLE", detail="503"), times=1)

    await desk.office.drain()
    await desk.pass_time(10)
    await desk.office.drain()

    assert desk.sent == [message, message]


async def test_a_day_cap_holds_all_chats_until_the_next_day_of_utc(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "daily_cap": 2})
    messages = [await desk.message(to) for to in (ANA, RUI, EVA)]
    for _ in range(3):
        await desk.office.drain()
        await desk.pass_time(1)

    assert desk.sent == messages[:2]
    assert (await desk.group())["reasons"] == ["rate_limited"]
    assert await desk.waits(messages[2]) == [("queued", "rate_limited")]
    pool = desk.office.queues.pool
    await pool.execute("UPDATE send_paces SET look_at = now()")
    await desk.sweep()
    midnight = await pool.fetchval(
        "SELECT look_at = date_trunc('day', now(), 'UTC') + interval '1 day' FROM send_paces"
    )
    assert midnight

    await pool.execute("UPDATE send_paces SET day = day - 1, look_at = now()")
    await desk.pass_time(1)
    await desk.office.drain()
    assert desk.sent == messages


async def test_jitter_spreads_messages_beyond_their_rate(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "jitter_seconds": 60})
    first, second = await desk.message(ANA), await desk.message(RUI)

    await desk.office.drain()

    assert desk.sent == [first]
    assert await desk.waits(second) == [("queued", "rate_limited")]
    await desk.pass_time(61)
    await desk.office.drain()
    assert desk.sent == [first, second]


async def test_in_quiet_hours_everything_waits_is_let_go_at_their_end_and_what_expires_meanwhile_expires(
    desk: Desk,
) -> None:
    pool = desk.office.queues.pool
    # Two hours around the database's own clock.
    hours = await pool.fetchval(
        "SELECT jsonb_build_object('start', to_char(now() AT TIME ZONE 'UTC' - interval '1 hour', 'HH24:MI'), "
        "'end', to_char(now() AT TIME ZONE 'UTC' + interval '1 hour', 'HH24:MI'), 'time_zone', 'UTC')"
    )
    await desk.config(quiet_hours=hours)
    message, short = await desk.message(ANA), await desk.message(RUI, expires_in_s=60)

    await desk.office.drain()

    assert desk.sent == []
    assert await desk.waits(message, short) == [("queued", "quiet_hours")] * 2
    ends_in_s = await pool.fetchval("SELECT extract(epoch FROM look_at - now())::float8 FROM send_paces")
    assert 3500 < ends_in_s <= 3600
    await desk.pass_time(61)
    assert await pool.fetchval("SELECT state FROM jobs WHERE job_key = $1", f"msg-{short}") == "cancelled"

    await desk.config()
    await desk.office.drain()
    assert desk.sent == [message]


async def test_the_end_of_quiet_hours_rings_once_and_the_sweep_reads_only_what_is_due(desk: Desk) -> None:
    pool = desk.office.queues.pool
    await desk.config(quiet_hours={"start": "00:00", "end": "00:01", "time_zone": "UTC"})
    message = await desk.message(ANA)
    # As it was a moment before their end.
    await pool.execute("UPDATE job_groups SET reasons = ARRAY['quiet_hours'] WHERE grp = $1", desk.session)

    async with desk.office.queues.transaction() as tx:
        early = await paces.fit_due(tx.connection)
    await pool.execute("UPDATE send_paces SET look_at = now()")
    async with desk.office.queues.transaction() as tx:
        at_the_end = await paces.fit_due(tx.connection)
    async with desk.office.queues.transaction() as tx:
        again = await paces.fit_due(tx.connection)

    # In the minute after midnight the hours hold, and there is nothing to tell.
    is_quiet = await pool.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'HH24:MI') = '00:00'")
    assert (early, at_the_end, again) == (False, not is_quiet, False)
    await desk.office.drain()
    assert desk.sent == ([] if is_quiet else [message])


async def test_a_sweep_waits_for_nobody_and_leaves_what_another_holds_for_the_next(desk: Desk) -> None:
    pool = desk.office.queues.pool
    await desk.config(quiet_hours={"start": "00:00", "end": "00:01", "time_zone": "UTC"})
    await pool.execute("UPDATE send_paces SET look_at = 'epoch'")
    still_due = "SELECT look_at = 'epoch' FROM send_paces"

    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT 1 FROM job_groups WHERE grp = $1 FOR UPDATE", desk.session)
        await desk.sweep()
        assert await pool.fetchval(still_due)
    await desk.sweep()

    assert not await pool.fetchval(still_due)


# A transaction waits for a lock of another.
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def test_a_message_that_uses_up_the_day_while_a_sweep_looks_is_seen_by_it(desk: Desk) -> None:
    pool = desk.office.queues.pool
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "daily_cap": 1})
    message = await desk.message(ANA)
    await pool.execute("UPDATE send_paces SET look_at = now()")

    async with asyncio.TaskGroup() as group, pool.acquire() as connection:
        async with connection.transaction():
            await tries.begin(connection, [Start(message_id=message, job_id="job")])
            sweeping = group.create_task(desk.sweep())
            await until(lambda: pool.fetchval(_WAITING))
        await sweeping

    assert (await desk.group())["reasons"] == ["rate_limited"]


async def test_what_is_kept_of_chats_and_connections_goes_when_it_is_over(desk: Desk) -> None:
    pool = desk.office.queues.pool
    await desk.config(pacing={"profile": "new"})
    await desk.message(ANA)
    await desk.office.drain()
    await pool.execute("UPDATE chat_holds SET until = now() - interval '2 days'")
    await pool.execute("UPDATE connections SET deleted_at = now()")
    await pool.execute("UPDATE send_paces SET look_at = now()")

    async with pool.acquire() as connection:
        gone = await retention.delete_batch(connection, retention.deletions(desk.office.use.settings)["chat_holds"])
    await desk.sweep()

    assert gone == 1
    assert await pool.fetchval("SELECT count(*) FROM send_paces") == 0


async def test_another_number_begins_anew(desk: Desk) -> None:
    await desk.config(pacing={"profile": "custom", "rate_per_minute": 600, "daily_cap": 1})
    held = await desk.message(ANA)
    refuse(desk, RESTRICTED, times=1)
    await desk.office.drain()
    await desk.sweep()
    assert (await desk.group())["reasons"] == ["rate_limited"]

    async with desk.office.queues.transaction() as tx:
        await db_paces.begin_anew(tx.connection, ConnectionId(UUID(desk.session)))
    await desk.sweep()
    message = await desk.message(ANA, order=False)
    await desk.office.drain()

    assert desk.sent == [held, message]
    assert await desk.office.status(message) == "sent"


async def test_a_users_pause_is_kept_whatever_the_pace_says(desk: Desk) -> None:
    await desk.office.queues.pool.execute(
        "INSERT INTO job_groups (queue, grp, reasons) VALUES (4, $1, ARRAY['connection_paused', 'rate_limited'])",
        desk.session,
    )

    await desk.config(pacing={"profile": "warm"})

    assert (await desk.group())["reasons"] == ["connection_paused"]
    assert (await desk.group())["rate_per_minute"] == 12


async def test_typing_is_shown_before_a_message_and_a_reaction_needs_none(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, str]] = []
    slept: list[float] = []

    class Host:
        async def typing(self, _owner: Owner, command: protocol.Typing) -> protocol.ShowAnswer:
            shown.append((command.to, command.state))
            return protocol.Shown()

    async def sleep(seconds: float) -> None:
        assert desk.sent == []
        slept.append(seconds)

    typist = Typist(Host(), at_once=1, sleep=sleep)
    monkeypatch.setattr(desk.office.use, "typist", typist, raising=False)
    await desk.config(pacing={"profile": "custom", "typing": True})
    message = await desk.message(ANA)
    await desk.office.drain()

    assert (shown, slept, desk.sent) == ([(ANA, "composing")], [1.08], [message])
    await typist.type(OWNER, await _sendable(desk, "reaction"))
    assert len(shown) == 1


async def test_who_finds_enough_typing_comes_again_and_holds_no_slot(desk: Desk) -> None:
    go = asyncio.Event()

    class Host:
        async def typing(self, _owner: Owner, _command: protocol.Typing) -> protocol.ShowAnswer:
            return protocol.Shown()

    async def sleep(_seconds: float) -> None:
        await go.wait()

    typist = Typist(Host(), at_once=1, sleep=sleep)
    message = await _sendable(desk, "text")
    async with asyncio.TaskGroup() as group:
        group.create_task(typist.type(OWNER, message))
        await asyncio.sleep(0)
        assert (typist.wait_s(message) or 0) >= 1
        go.set()
    assert typist.wait_s(message) is None


async def test_a_host_that_does_not_show_typing_keeps_no_message(desk: Desk) -> None:
    class Host:
        async def typing(self, _owner: Owner, _command: protocol.Typing) -> protocol.ShowAnswer:
            await asyncio.Event().wait()
            raise AssertionError

    async def sleep(_seconds: float) -> None:
        raise AssertionError

    async with asyncio.timeout(10):
        typist = Typist(Host(), at_once=1, sleep=sleep, shown_within_s=0.01)
        await typist.type(OWNER, await _sendable(desk, "text"))


async def _sendable(desk: Desk, type_: str) -> Any:
    message = await desk.office.message(desk.session, job=False)
    async with desk.office.queues.pool.acquire() as connection:
        [found] = await tries.begin(connection, [Start(message_id=message, job_id=str(uuid4()))])
    assert found is not None
    return replace(found, type=type_, types=True)
