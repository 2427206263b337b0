"""What was written and waited for is on disk; the registries come back from it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from local.fake_whatsapp import mailbox
from local.fake_whatsapp.contacts import Contact, Contacts
from local.fake_whatsapp.devices import Device, Devices
from local.fake_whatsapp.mailbox import Letter, Mailbox
from local.fake_whatsapp.signal.conversation import Sealed
from local.fake_whatsapp.store import Store, fact, keep_fact
from local.fake_whatsapp.wire_log import Content, Stanza, WireLog

PHONE, CONTACT = "5511988887777", "5511999990001"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    store = Store(folder / "fake.sqlite3")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run)
        try:
            yield store
        finally:
            store.stop()


def message(box: Mailbox, wire_id: str) -> Letter:
    return box.post(PHONE, contact=CONTACT, kind=mailbox.MESSAGE, wire_id=wire_id, body=wire_id.encode())


async def test_a_durable_write_is_seen_by_another_reader(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        keep_fact(store, "name", b"first")
        keep_fact(store, "name", b"second")
        await store.durable()

        with sqlite3.connect(tmp_path / "fake.sqlite3") as reader:
            rows = reader.execute("SELECT value FROM fact WHERE name = 'name'").fetchall()
        reader.close()

    assert rows == [(b"second",)]


async def test_durable_returns_at_once_when_nothing_was_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.durable()

        assert fact(store, "name") is None


async def test_a_write_that_the_disk_refuses_is_told_to_those_who_wait(tmp_path: Path) -> None:
    store = Store(tmp_path / "fake.sqlite3")

    async def write_and_wait() -> None:
        store.write("INSERT INTO nowhere VALUES (1)")
        with pytest.raises(sqlite3.OperationalError):
            await store.durable()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_and_wait)
        with pytest.raises(sqlite3.OperationalError):
            await store.run()


async def test_contacts_and_devices_survive_a_restart(tmp_path: Path) -> None:
    contact = Contact(CONTACT, "Ana", on_whatsapp=False, auto_receipts=("delivered", "read"), receipt_delay_ms=5)
    async with opened(tmp_path) as store:
        Contacts(store, secret=b"s").put(contact)
        devices = Devices(store)
        devices.link(Device(PHONE, 1, b"identity"))
        devices.add_keys(PHONE, signed=(1, b"signed"), one_time=[(1, b"one"), (2, b"two")])
        devices.take_bundle(PHONE)
        devices.count_connect(PHONE)

    async with opened(tmp_path) as store:
        devices = Devices(store)
        assert Contacts(store, secret=b"s").get(CONTACT) == contact
        assert devices.get(PHONE) == Device(PHONE, 1, b"identity", 1, b"signed", connects=1)
        assert devices.one_time_keys_left(PHONE) == 1
        assert devices.take_bundle(PHONE).one_time_key == b"two"
        assert devices.take_bundle(PHONE).one_time_key is None


async def test_linking_again_gives_another_number_and_forgets_the_old_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        devices = Devices(store)
        devices.link(Device(PHONE, devices.next_number(PHONE), b"old"))
        devices.add_keys(PHONE, signed=(1, b"signed"), one_time=[(1, b"one")])
        devices.unlink(PHONE)
        unlinked = devices.get(PHONE)
        devices.link(Device(PHONE, devices.next_number(PHONE), b"new"))

        assert unlinked is None
        assert devices.get(PHONE) == Device(PHONE, 2, b"new")
        assert devices.one_time_keys_left(PHONE) == 0


async def test_letters_wait_in_order_until_they_are_acknowledged_over_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        box = Mailbox(store)
        _, second, third = [message(box, wire_id) for wire_id in ("A", "B", "C")]
        box.seal(third, device=1, sealed=Sealed("msg", b"cipher"))
        box.let_go(PHONE, second.seq)

    async with opened(tmp_path) as store:
        waiting = Mailbox(store).waiting(PHONE)

    assert [letter.wire_id for letter in waiting] == ["A", "C"]
    assert waiting[1].sealed == Sealed("msg", b"cipher")


async def test_a_message_that_could_not_be_read_waits_once_more_even_after_its_acknowledgement(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        box = Mailbox(store)
        box.let_go(PHONE, message(box, "A").seq)

        again = box.again(PHONE, "A")

        assert again is not None
        assert (again.wire_id, again.body, again.sealed) == ("A", b"A", None)
        assert box.waiting(PHONE) == [again]
        assert box.again(PHONE, "never seen") is None


async def test_the_wire_marks_a_message_that_comes_again_and_repeats_what_it_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        wire = WireLog(store)
        stanza = Stanza("A", PHONE, CONTACT, "2026-01-01T00:00:00+00:00", bot_tag=False)
        wire.append(stanza, Content("text", {"text": "hello"}))
        wire.append_duplicate(stanza)
        wire.append(Stanza("B", PHONE, CONTACT, "2026-01-01T00:00:01+00:00", bot_tag=False), Content("poll", {}))
        await store.durable()

        rows = wire.rows(session_phone=PHONE, contact=None, after=0)

        assert [(row["wire_id"], row["text"], row["resend"]) for row in rows] == [
            ("A", "hello", False),
            ("A", "hello", True),
            ("B", None, False),
        ]
        assert [row["seq"] for row in wire.rows(session_phone=None, contact=CONTACT, after=2)] == [3]
        assert wire.rows(session_phone="1", contact=None, after=0) == []


async def test_a_folder_of_an_earlier_version_gets_the_columns_that_came_since(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "fake.sqlite3") as old:
        old.execute(
            "CREATE TABLE letter (seq INTEGER PRIMARY KEY, phone TEXT, contact TEXT, kind TEXT, wire_id TEXT, "
            "body BLOB, due_at_ms INTEGER, device INTEGER, enc_type TEXT, enc BLOB)"
        )
        old.execute("INSERT INTO letter VALUES (1, ?, ?, 'message', 'OLD', x'01', 0, 0, '', x'')", (PHONE, CONTACT))
    old.close()

    async with opened(tmp_path) as store:
        [letter] = Mailbox(store).waiting(PHONE)

    assert (letter.wire_id, letter.chat) == ("OLD", "")


async def test_a_letter_to_a_group_comes_back_as_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        Mailbox(store).post(PHONE, contact=CONTACT, kind=mailbox.MESSAGE, wire_id="A", body=b"a", chat="1@g.us")
        await store.durable()

        assert [letter.chat for letter in Mailbox(store).waiting(PHONE)] == ["1@g.us"]
