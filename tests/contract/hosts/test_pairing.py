"""Linking a phone: codes that expire and are renewed, codes to type, and sessions that begin to be opened twice."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.hosts import protocol
from tests.contract.hosts.simulated_host import new_connection, row, until, until_qr, until_status
from tests.contract.hosts.test_host_commands import PHONE, Stage, stage  # noqa: F401 - a fixture

SET = timedelta(seconds=160)


async def _told(stage: Stage, type_: str) -> list[dict[str, Any]]:  # noqa: F811 - the fixture's value
    rows = await stage.queues.pool.fetch("SELECT payload FROM events WHERE type = $1 ORDER BY position", type_)
    return [one["payload"] for one in rows]


async def test_a_set_of_codes_that_nobody_scanned_is_followed_by_another_with_an_event_each(stage: Stage) -> None:  # noqa: F811
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.client.open(session)
        first = await until_qr(stage.queues.pool, session)
        first_row = await row(stage.queues.pool, session)
        stage.server.expire_code(first)

        async def renewed() -> str | None:
            code: str | None = (await row(stage.queues.pool, session))["qr_code"]
            return code if code != first else None

        second = await until(renewed, within_s=30)
        told = await _told(stage, "session.qr")
        stage.server.scan(str(second), PHONE)
        linked = await until_status(stage.queues.pool, session, "connected")

    lives_s = (first_row["qr_expires_at"] - first_row["updated_at"]).total_seconds()
    assert round(lives_s) == 60
    assert [(one["qr"], one["qr_attempt"]) for one in told] == [(first, 1), (second, 2)]
    assert all(one["qr_expires_at"].endswith("Z") for one in told)
    assert (linked["qr_code"], linked["qr_expires_at"]) == (None, None)


async def test_a_code_to_type_ends_with_the_set_that_it_belongs_to_and_is_renewed_with_the_next(stage: Stage) -> None:  # noqa: F811
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.client.open(session)
        first = await until_qr(stage.queues.pool, session)
        owner = await stage.owner(session)
        before = datetime.now(UTC)
        command = protocol.PairCode(connection_id=session, epoch=owner.epoch, phone=PHONE)
        answer = await stage.client.pair_code(owner, command)
        shown = await row(stage.queues.pool, session)
        stage.server.expire_code(first)

        async def renewed() -> list[dict[str, Any]] | None:
            told = await _told(stage, "session.pair_code")
            return told if len(told) > 1 else None

        told = await until(renewed, within_s=30)

    assert isinstance(answer, protocol.CodeShown)
    # A set lasts 160 s from its first code, however late a code to type is asked for.
    assert before < answer.expires_at < before + SET
    assert abs(shown["pair_code_expires_at"] - answer.expires_at) < timedelta(seconds=5)
    assert told is not None
    assert [one["pair_code"] for one in told] == [answer.code, answer.code]
    assert told[0]["expires_at"][:19] == shown["pair_code_expires_at"].strftime("%Y-%m-%dT%H:%M:%S")
    assert told[1]["expires_at"] > told[0]["expires_at"]


async def test_openings_at_the_same_moment_are_one_client(stage: Stage) -> None:  # noqa: F811
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        answers = await asyncio.gather(*(stage.client.open(session) for _ in range(5)))
        await until_qr(stage.queues.pool, session)
        told = await _told(stage, "session.qr")

    assert len({one.epoch for one in answers if isinstance(one, protocol.Taken)}) == 1
    assert [one["qr_attempt"] for one in told] == [1]


async def test_a_demand_for_a_passkey_is_a_status_until_the_next_set_which_can_be_scanned(stage: Stage) -> None:  # noqa: F811
    session = await new_connection(stage.queues.pool)
    async with stage.host("a"):
        await stage.client.open(session)
        first = await until_qr(stage.queues.pool, session)
        stage.server.ask_passkey(first)
        asked = await until_status(stage.queues.pool, session, "passkey_required")
        void = stage.server.show_next_code(first)
        stage.server.expire_code(void)
        good = await until_qr(stage.queues.pool, session)
        told = await _told(stage, "session.qr")
        stage.server.scan(good, PHONE)
        await until_status(stage.queues.pool, session, "connected")

    assert (asked["status_reason"], asked["qr_code"]) == ("passkey-request", None)
    assert [(one["qr"], one["qr_attempt"]) for one in told] == [(first, 1), (good, 2)]
