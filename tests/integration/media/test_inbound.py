"""The file of a message that came in: the message is told at once, the file is fetched beside it and told once more."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from functions import message_receive
from functions.resources import Resources
from functions.turnstile import Turnstile
from shared.db.hosts import Owner
from shared.db.pool import Record
from shared.domain.errors import HostUnreachable
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.jobs import QueueName
from shared.hosts import protocol
from shared.media import open_media
from shared.queues.drain import Drain
from shared.queues.new_jobs import from_data
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.contract.hosts.simulated_host import until
from tests.integration.api.conftest import ADMIN_KEY, running

HOST = "host-1"
FILE = b"\xff\xd8\xff" + bytes(range(256)) * 20
CHAT = "5511987654321@s.whatsapp.net"
PERMANENT = protocol.Refused(code="MEDIA_EXPIRED", detail="WhatsApp does not have the file any more.", permanent=True)

Answer = bytes | protocol.NoFile | Exception


@dataclass
class ScriptedHost:
    """Gives `files` one after the other, the last one for ever; an exception is raised after a part was written."""

    answers: list[Answer] = field(default_factory=lambda: [FILE])
    asked: list[protocol.Download] = field(default_factory=list)
    running: int = 0
    most: int = 0
    holds: bool = False
    gates: list[asyncio.Event] = field(default_factory=list)

    def open_all(self) -> None:
        self.holds = False
        while self.gates:
            self.gates.pop().set()

    async def download(
        self, _owner: Owner, command: protocol.Download, write: Callable[[bytes], Awaitable[None]]
    ) -> protocol.NoFile | None:
        self.asked.append(command)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.holds:
                self.gates.append(gate := asyncio.Event())
                await gate.wait()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, bytes):
                for start in range(0, len(answer), 1000):
                    await write(answer[start : start + 1000])
                return None
            if isinstance(answer, Exception):
                await write(b"a part of it")
                raise answer
            return answer
        finally:
            self.running -= 1


@dataclass
class Desk:
    queues: Queues
    use: Resources
    host: ScriptedHost
    session: str

    async def receive(
        self, wire_id: str = "3EB001", *, type_: str = "image", file: bytes = FILE, **fields: Any
    ) -> None:
        """As the journal's feed enqueues what the library gave."""
        content = {
            "mimetype": "image/jpeg",
            "bytes": len(file),
            "caption": "look",
            "source": {
                "kind": type_,
                "direct_path": "/v/t62.7118-24/file?ccb=1",
                "media_key": base64.b64encode(b"k" * 32).decode(),
                "sha256": base64.b64encode(hashlib.sha256(file).digest()).decode(),
                "enc_sha256": base64.b64encode(b"e" * 32).decode(),
                "size": len(file),
            },
            **fields,
        }
        data = {
            "sessionId": self.session,
            "waMessageId": wire_id,
            "chat": CHAT,
            "from": CHAT,
            "type": type_,
            "content": {name: value for name, value in content.items() if value is not None},
            "timestamp": 1_790_000_000_000,
        }
        async with self.queues.transaction() as tx:
            await tx.enqueue([from_data(QueueName.MESSAGE_RECEIVE, data)])

    async def drain(self) -> None:
        drain = Drain(
            self.queues,
            {QueueName.MESSAGE_RECEIVE: message_receive.queue.work},
            self.use,
            slots={QueueName.MESSAGE_RECEIVE: 10},
            worker="test",
        )
        async with asyncio.timeout(20):
            await drain.until_idle()

    async def fall_due(self) -> None:
        await self.queues.pool.execute("UPDATE jobs SET run_at = now() WHERE state = 'delayed'")
        await self.queues.pool.fetch("SELECT * FROM ledger_sweep_v1(100)")

    async def payload(self, wire_id: str = "3EB001") -> dict[str, Any]:
        found: dict[str, Any] = await self.queues.pool.fetchval(
            "SELECT payload FROM messages WHERE message_id = $1", wire_id
        )
        return found

    async def events(self) -> list[tuple[str, str]]:
        rows = await self.queues.pool.fetch(
            "SELECT type, payload->'payload'->>'media_state' AS state FROM events ORDER BY position"
        )
        return [(row["type"], row["state"]) for row in rows]

    async def media(self) -> Record:
        row = await self.queues.pool.fetchrow("SELECT * FROM media")
        assert row is not None
        return row

    async def until_running(self, count: int) -> None:
        async def are() -> bool:
            return self.host.running == count

        await until(are)

    async def connect(self, *, is_online: bool) -> None:
        await self.queues.pool.execute(
            "UPDATE connections SET status = $1", "connected" if is_online else "disconnected"
        )


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        data_dir=tmp_path,
        media_max_bytes=100_000,
        db_pool_size=8,
    )


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    async with await Queues.open(settings) as queues, open_media(settings, queues.pool) as media:
        await queues.pool.execute("INSERT INTO hosts (id, address, capacity) VALUES ($1, 'http://x', 9)", HOST)
        session = await queues.pool.fetchval(
            "INSERT INTO connections (id, tenant_id, label, status, host_id, lease_epoch, lease_until)"
            " VALUES (gen_random_uuid(), $1, 'shop', 'connected', $2, 7, now() + interval '1 hour') RETURNING id::text",
            DEFAULT_TENANT,
            HOST,
        )
        host = ScriptedHost()
        use = SimpleNamespace(
            settings=settings,
            pool=queues.pool,
            queues=queues,
            now=lambda: datetime.now(UTC),
            hosts=host,
            media=media,
            downloads=Turnstile(5),
        )
        yield Desk(queues, cast("Resources", use), host, session)


async def test_the_message_is_told_at_once_and_again_when_its_file_is_here(desk: Desk) -> None:
    await desk.receive()
    await desk.drain()

    payload = await desk.payload()
    assert await desk.events() == [("message.received", "pending"), ("message.media", "stored")]
    assert payload["media_state"] == "stored"
    assert payload["url"] == f"/media/{payload['media_id']}"
    assert (payload["caption"], payload["mimetype"], payload["bytes"]) == ("look", "image/jpeg", len(FILE))
    data, found = await desk.use.media.read(UUID(payload["media_id"]))
    assert (data, found.mimetype) == (FILE, "image/jpeg")
    [asked] = desk.host.asked
    assert (asked.epoch, asked.source.kind, asked.source.media_key) == (7, "image", b"k" * 32)


async def test_what_opens_the_file_is_shown_to_nobody_and_sealed_while_it_is_needed(desk: Desk) -> None:
    desk.host.answers = [protocol.NotConnected()]
    await desk.receive()
    await desk.drain()

    row = await desk.media()
    shown = await desk.queues.pool.fetchval("SELECT message_object(m)::text FROM messages m")
    key = base64.b64encode(b"k" * 32).decode()
    assert row["state"] == "pending"
    assert b"k" * 32 not in row["source_sealed"]
    assert key.encode() not in row["source_sealed"]
    assert key not in shown
    assert "direct_path" not in shown

    desk.host.answers = [FILE]
    await desk.fall_due()
    await desk.drain()
    assert (await desk.media())["source_sealed"] is None


async def test_a_message_that_comes_twice_has_one_file(desk: Desk) -> None:
    await desk.receive()
    await desk.drain()
    before = await desk.payload()

    await desk.receive()
    await desk.drain()

    assert await desk.payload() == before
    assert await desk.events() == [("message.received", "pending"), ("message.media", "stored")]
    assert len(desk.host.asked) == 1


async def test_a_text_never_waits_for_a_file(desk: Desk) -> None:
    """Downloads that hang take half of the slots, and none of a batch."""
    desk.host.holds = True
    for number in range(12):
        await desk.receive(f"3EBF{number}")
    draining = asyncio.ensure_future(desk.drain())
    await desk.until_running(5)

    for number in range(20):
        await desk.receive(f"3EBT{number}", type_="text", text="hi", source=None)

    async def have_come() -> bool:
        await desk.queues.ring({QueueName.MESSAGE_RECEIVE})  # as a worker's sweep does every second
        return bool(await desk.queues.pool.fetchval("SELECT count(*) = 20 FROM messages WHERE type = 'text'"))

    await until(have_come)

    assert (desk.host.most, desk.host.running) == (5, 5)
    desk.host.open_all()
    await draining
    for _ in range(5):
        await desk.fall_due()
        await desk.drain()
    assert desk.host.most == 5
    assert await desk.queues.pool.fetchval("SELECT count(*) FROM media WHERE state = 'stored'") == 12


async def test_a_connection_that_is_offline_costs_the_file_no_try(desk: Desk) -> None:
    await desk.connect(is_online=False)
    await desk.receive()
    for _ in range(10):
        await desk.drain()
        await desk.fall_due()
    assert desk.host.asked == []

    await desk.connect(is_online=True)
    await desk.drain()

    assert (await desk.payload())["media_state"] == "stored"


async def test_a_connection_that_stays_offline_is_given_up_after_a_fortnight(desk: Desk) -> None:
    await desk.connect(is_online=False)
    await desk.receive()
    await desk.drain()
    later = SimpleNamespace(**{**vars(desk.use), "now": lambda: datetime.now(UTC) + timedelta(days=15)})
    desk.use = cast("Resources", later)

    await desk.fall_due()
    await desk.drain()

    payload = await desk.payload()
    assert (payload["media_state"], payload["media_error"]["code"]) == ("failed", "MEDIA_EXPIRED")


async def test_a_deleted_connection_s_file_is_given_up_at_once(desk: Desk) -> None:
    await desk.receive()
    await desk.queues.pool.execute("UPDATE connections SET status = 'closed', deleted_at = now()")
    await desk.drain()

    assert (await desk.payload())["media_error"]["code"] == "MEDIA_EXPIRED"
    assert desk.host.asked == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (PERMANENT, "MEDIA_EXPIRED"),
        (FILE + b"more", "MEDIA_BROKEN"),
        (bytes(200_000), "MEDIA_TOO_LARGE"),
    ],
)
async def test_a_file_that_will_never_come_is_told_as_failed(desk: Desk, answer: Answer, code: str) -> None:
    desk.host.answers = [answer]
    await desk.receive()
    await desk.drain()

    payload = await desk.payload()
    assert (payload["media_state"], payload["media_error"]["code"]) == ("failed", code)
    assert await desk.events() == [("message.received", "pending"), ("message.media", "failed")]
    assert len(desk.host.asked) == 1
    assert (await desk.media())["source_sealed"] is None


async def test_a_file_that_says_it_is_too_large_is_not_asked_for(desk: Desk) -> None:
    await desk.receive(file=bytes(100_001))
    await desk.drain()

    assert (await desk.payload())["media_error"]["code"] == "MEDIA_TOO_LARGE"
    assert desk.host.asked == []


@pytest.mark.parametrize(
    "source",
    [
        {},
        "nonsense",
        {"kind": "image", "direct_path": "", "media_key": "", "sha256": "", "enc_sha256": "", "size": 0},
        {"kind": "poll", "direct_path": "/x", "media_key": "AAAA", "sha256": "", "enc_sha256": "", "size": 1},
    ],
)
async def test_a_message_that_does_not_say_where_its_file_is_is_told_all_the_same(desk: Desk, source: Any) -> None:
    await desk.receive(source=source)
    await desk.drain()

    payload = await desk.payload()
    assert (payload["media_state"], payload["caption"]) == ("failed", "look")
    assert "media_id" not in payload
    assert await desk.events() == [("message.received", "failed")]


async def test_a_host_that_fails_is_asked_again_and_then_no_more(desk: Desk) -> None:
    desk.host.answers = [HostUnreachable("the session host did not answer"), protocol.Refused(code="X", detail="later")]
    await desk.receive()
    for _ in range(6):
        await desk.drain()
        await desk.fall_due()
    await desk.drain()

    payload = await desk.payload()
    assert len(desk.host.asked) == 6
    assert (payload["media_state"], payload["media_error"]["code"]) == ("failed", "MEDIA_FETCH_FAILED")
    assert await desk.queues.pool.fetchval("SELECT state FROM jobs WHERE name = 'download-media'") == "failed"


async def test_one_failure_is_forgotten_when_the_next_try_has_the_file(desk: Desk) -> None:
    desk.host.answers = [HostUnreachable("the session host did not answer"), FILE]
    await desk.receive()
    await desk.drain()
    assert (await desk.payload())["media_state"] == "pending"

    await desk.fall_due()
    await desk.drain()

    assert await desk.events() == [("message.received", "pending"), ("message.media", "stored")]


async def test_a_worker_that_dies_between_storing_and_telling_tells_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object, **__: object) -> Any:
        await keep(*_, **__)
        raise RuntimeError("the worker is gone")

    keep = desk.use.media.keep
    await desk.receive()
    with monkeypatch.context() as patched:
        patched.setattr(desk.use.media, "keep", die)
        await desk.drain()
    assert (await desk.media())["state"] == "stored"
    assert (await desk.payload())["media_state"] == "pending"

    await desk.fall_due()
    await desk.drain()

    assert len(desk.host.asked) == 1
    assert await desk.events() == [("message.received", "pending"), ("message.media", "stored")]


async def test_our_own_store_being_away_costs_the_file_no_try(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    await desk.receive()
    for _ in range(8):
        await desk.drain()
        await desk.fall_due()
    assert (await desk.payload())["media_state"] == "pending"

    (tmp_path / "media").unlink()
    await desk.drain()

    assert (await desk.payload())["media_state"] == "stored"


async def test_a_file_that_was_deleted_while_it_was_fetched_stays_deleted(desk: Desk) -> None:
    desk.host.holds = True
    await desk.receive()
    draining = asyncio.ensure_future(desk.drain())
    await desk.until_running(1)
    await desk.queues.pool.execute("DELETE FROM media")
    desk.host.open_all()
    await draining

    assert await desk.queues.pool.fetchval("SELECT count(*) FROM media_objects WHERE state = 'kept'") == 0


async def test_a_get_waits_for_a_file_that_is_on_its_way(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.host.holds = True
    await desk.receive()
    draining = asyncio.ensure_future(desk.drain())
    await desk.until_running(1)
    url = (await desk.payload())["url"]

    async with running(settings) as api:
        with monkeypatch.context() as patched:
            patched.setattr("api.media.WAIT_S", 0)
            early = await api.get(url)
        waiting = asyncio.ensure_future(api.get(url))
        desk.host.open_all()
        answer: httpx.Response = await waiting
    await draining

    assert (early.status_code, early.json()["code"], early.json()["retryable"]) == (409, "MEDIA_PENDING", True)
    assert (answer.status_code, answer.content) == (200, FILE)


async def test_a_get_of_a_file_that_failed_says_why(desk: Desk, settings: Settings) -> None:
    desk.host.answers = [PERMANENT]
    await desk.receive()
    await desk.drain()

    async with running(settings) as api:
        answer = await api.get((await desk.payload())["url"])

    assert (answer.status_code, answer.json()["code"]) == (410, "MEDIA_EXPIRED")
    assert json.loads(answer.text)["detail"] == "WhatsApp does not have the file any more."
