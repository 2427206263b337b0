"""What every WhatsApp client keeps, whatever is behind it. Each function gets a world and a number of its own."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import uuid4

import pytest

from session_host.whatsapp.port import (
    CallOffered,
    ClientEvent,
    ClientSpec,
    Connected,
    DeviceMissing,
    Inbound,
    JournalFailed,
    LoggedOut,
    Outgoing,
    OutgoingFile,
    Paired,
    QrShown,
    Receipt,
    Replaced,
    WhatsAppClient,
    WireRecord,
)
from shared.domain.ids import ConnectionId, WireId
from shared.domain.jid import Person
from shared.hosts.protocol import MediaSource, NotConnected, Refused, Sent, Shown
from tests.contract.hosts.simulated_host import until
from tests.contract.hosts.worlds import World

CONTACT = "5511999990001"
NOBODY = "5511999990000"
T = TypeVar("T", bound=ClientEvent)


class Watched:
    """A client and everything it told."""

    def __init__(self, world: World, device_jid: str | None) -> None:
        self.events: asyncio.Queue[ClientEvent] = asyncio.Queue()
        self.seen: list[ClientEvent] = []
        self.recorded: list[WireRecord] = []
        self.calls: asyncio.Queue[CallOffered] = asyncio.Queue()
        self.refuses_records = False
        self.client: WhatsAppClient = world.make_client(
            ClientSpec(
                connection_id=ConnectionId(uuid4()),
                device_jid=device_jid,
                emit=self.events.put_nowait,
                record=self._record,
                on_call=self.calls.put_nowait,
            )
        )

    def _record(self, found: WireRecord) -> None:
        if self.refuses_records:
            raise OSError("no space left on device")
        self.recorded.append(found)

    async def until(self, kind: type[T]) -> T:
        async with asyncio.timeout(20):
            while True:
                event = await self.events.get()
                self.seen.append(event)
                if isinstance(event, kind):
                    return event

    async def until_recorded(self, kind: type) -> WireRecord:
        async def look() -> list[WireRecord]:
            return [one for one in self.recorded if isinstance(one, kind)]

        return (await until(look))[0]


async def paired(world: World, phone: str) -> tuple[Watched, str]:
    watched = Watched(world, None)
    await watched.client.start()
    await world.scan((await watched.until(QrShown)).code, phone)
    device = (await watched.until(Paired)).device_jid
    await watched.until(Connected)
    return watched, device


def text(words: str, *, to: str = CONTACT) -> Outgoing:
    return Outgoing(to=f"{to}@s.whatsapp.net", type="text", payload={"text": words}, secret=os.urandom(32))


async def scanning_its_code_pairs_it_and_the_device_connects_without_a_code_from_then_on(
    world: World, phone: str
) -> None:
    first, device = await paired(world, phone)
    assert device.startswith(f"{phone}:")
    assert device.endswith("@s.whatsapp.net")
    assert await first.client.stop(deadline_s=5)

    second = Watched(world, device)
    await second.client.start()
    await second.until(Connected)

    assert not any(isinstance(event, QrShown) for event in second.seen)
    await second.client.stop(deadline_s=5)


async def a_device_that_the_store_lacks_is_refused_before_the_library_sees_it(world: World, phone: str) -> None:
    with pytest.raises(DeviceMissing):
        await Watched(world, f"{phone}:9@s.whatsapp.net").client.start()


async def a_message_is_sent_once_and_its_secret_finds_the_wire_id(world: World, phone: str) -> None:
    watched, device = await paired(world, phone)
    message = text("hello")

    answer = await watched.client.send(message)

    assert isinstance(answer, Sent)
    assert await world.wire(phone) == [(answer.wire_id, "hello")]
    assert await world.store.wire_id_of(message.secret, device_jid=device) == answer.wire_id
    assert await world.store.wire_id_of(os.urandom(32), device_jid=device) is None
    await watched.client.stop(deadline_s=5)


@asynccontextmanager
async def _pdf() -> AsyncIterator[OutgoingFile | Refused]:
    yield OutgoingFile(data=b"%PDF-1.4", mimetype="application/pdf")


@asynccontextmanager
async def _gone() -> AsyncIterator[OutgoingFile | Refused]:
    yield Refused(code="MEDIA_GONE", detail="no file", permanent=True)


async def every_type_is_sent_once_under_a_secret_of_its_own(world: World, phone: str) -> None:
    watched, device = await paired(world, phone)
    target = await watched.client.send(text("target"))
    assert isinstance(target, Sent)
    named = {"message_id": target.wire_id, "from_me": True}
    expected = [(target.wire_id, "text")]

    for type_, payload, file in (
        ("location", {"latitude": 1.5, "longitude": 2.5}, None),
        ("contact", {"name": "Ana", "phone": "5511900001111"}, None),
        ("poll", {"question": "?", "options": ["a", "b"], "max": 1}, None),
        ("reaction", {**named, "emoji": "+"}, None),
        ("edit", {**named, "text": "better"}, None),
        ("revoke", named, None),
        ("document", {"media_id": "x"}, _pdf),
    ):
        secret = os.urandom(32)
        message = Outgoing(to=f"{CONTACT}@s.whatsapp.net", type=type_, payload=payload, secret=secret, file=file)
        answer = await watched.client.send(message)
        assert isinstance(answer, Sent), (type_, answer)
        assert await world.store.wire_id_of(secret, device_jid=device) == answer.wire_id
        expected.append((answer.wire_id, type_))

    assert await world.wire_types(phone) == expected
    await watched.client.stop(deadline_s=5)


async def a_message_without_its_file_is_refused_and_leaves_no_trace(world: World, phone: str) -> None:
    watched, device = await paired(world, phone)
    secret = os.urandom(32)

    answer = await watched.client.send(
        Outgoing(to=f"{CONTACT}@s.whatsapp.net", type="document", payload={}, secret=secret, file=_gone)
    )

    assert isinstance(answer, Refused)
    assert await world.wire_types(phone) == []
    assert await world.store.wire_id_of(secret, device_jid=device) is None
    await watched.client.stop(deadline_s=5)


async def the_secret_of_a_poll_is_there_for_its_votes(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    secret = os.urandom(32)
    poll = {"question": "?", "options": ["a", "b"], "max": 1}

    answer = await watched.client.send(
        Outgoing(to=f"{CONTACT}@s.whatsapp.net", type="poll", payload=poll, secret=secret)
    )

    assert isinstance(answer, Sent)
    found = await world.store.poll_secrets([answer.wire_id, "NOPOLL"])
    assert list(found) == [answer.wire_id]
    assert [one.key for one in found[answer.wire_id]] == [secret]
    assert f"{phone}@s.whatsapp.net" in found[answer.wire_id][0].writers
    await watched.client.stop(deadline_s=5)


async def typing_and_reading_are_shown(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    chat = f"{CONTACT}@s.whatsapp.net"
    wire_id = await world.inbound(phone, sender=CONTACT, text="read me")
    await watched.until_recorded(Inbound)

    assert await watched.client.show_typing(chat, "composing") == Shown()
    assert await watched.client.mark_read(chat, chat, (WireId(wire_id),)) == Shown()

    async def seen() -> bool:
        return await world.signals(phone) == [(chat, "typing"), (chat, "read")]

    await until(seen)
    await watched.client.stop(deadline_s=5)


async def a_call_is_told_and_can_be_declined(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    await world.call(phone, caller=CONTACT, call_id="C0FFEE")

    async with asyncio.timeout(20):
        call = await watched.calls.get()
    answer = await watched.client.reject_call(call.wire_caller, call.call_id)

    jid = f"{CONTACT}@s.whatsapp.net"
    assert (call.call_id, call.caller, call.is_group) == ("C0FFEE", jid, False)
    assert isinstance(answer, Shown)

    async def declined() -> bool:
        return (jid, "call_rejected") in await world.signals(phone)

    await until(declined)


async def a_file_that_came_in_can_be_fetched_and_one_that_is_gone_cannot(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    await world.inbound_file(phone, sender=CONTACT, data=b"a file")
    came = await watched.until_recorded(Inbound)
    assert isinstance(came, Inbound)
    source = MediaSource.model_validate_json(json.dumps(came.content["source"]))

    assert await watched.client.download(source) == b"a file"
    gone = await watched.client.download(source.model_copy(update={"direct_path": "/v/nowhere?ccb=1"}))

    assert isinstance(gone, Refused)
    assert (gone.code, gone.permanent) == ("MEDIA_EXPIRED", True)
    await watched.client.stop(deadline_s=5)


async def it_knows_who_is_on_whatsapp(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)

    people = await watched.client.people_of((CONTACT, NOBODY))

    assert people == {CONTACT: Person(f"{CONTACT}@s.whatsapp.net", f"9{CONTACT}@lid"), NOBODY: None}
    await watched.client.stop(deadline_s=5)


async def what_comes_in_is_written_down_and_so_are_receipts(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    sent = await watched.client.send(text("question"))
    assert isinstance(sent, Sent)

    wire_id = await world.inbound(phone, sender=CONTACT, text="answer")
    await world.receipt(phone, sent.wire_id, "read")

    message = await watched.until_recorded(Inbound)
    receipt = await watched.until_recorded(Receipt)
    assert isinstance(message, Inbound)
    assert isinstance(receipt, Receipt)
    assert (message.wire_id, message.chat, message.from_me) == (wire_id, f"{CONTACT}@s.whatsapp.net", False)
    assert (message.type, message.content["text"]) == ("text", "answer")
    assert abs(message.timestamp_ms - receipt.timestamp_ms) < 60_000
    assert (receipt.wire_ids, receipt.status) == ((sent.wire_id,), "read")
    await watched.client.stop(deadline_s=5)


async def a_message_that_cannot_be_written_down_is_told_so_that_the_socket_closes(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)
    watched.refuses_records = True

    await world.inbound(phone, sender=CONTACT, text="lost?")

    await watched.until(JournalFailed)
    await watched.client.stop(deadline_s=5)


async def unlinking_removes_the_device(world: World, phone: str) -> None:
    watched, device = await paired(world, phone)

    assert await watched.client.logout()

    assert not await world.store.has_device(device)
    await watched.client.stop(deadline_s=5)


async def being_logged_out_is_told_and_the_device_is_gone(world: World, phone: str) -> None:
    watched, device = await paired(world, phone)

    await world.log_out(phone)

    await watched.until(LoggedOut)

    async def is_gone() -> bool:
        return not await world.store.has_device(device)

    await until(is_gone)
    await watched.client.stop(deadline_s=5)


async def being_replaced_is_told(world: World, phone: str) -> None:
    watched, _ = await paired(world, phone)

    await world.replace(phone)

    await watched.until(Replaced)
    await watched.client.stop(deadline_s=5)


async def calls_before_the_start_and_after_the_stop_do_nothing(world: World, phone: str) -> None:
    early = Watched(world, None)
    assert await early.client.send(text("early")) == NotConnected()
    assert await early.client.stop(deadline_s=1)

    late, _ = await paired(world, phone)
    await late.client.stop(deadline_s=5)
    assert await late.client.send(text("late")) == NotConnected()
    assert await late.client.people_of((CONTACT,)) == NotConnected()
    assert await late.client.show_typing(f"{CONTACT}@s.whatsapp.net", "paused") == NotConnected()
    assert await late.client.logout() is False
    assert await late.client.stop(deadline_s=1)


CLAUSES: list[Callable[[World, str], Awaitable[None]]] = [
    scanning_its_code_pairs_it_and_the_device_connects_without_a_code_from_then_on,
    a_device_that_the_store_lacks_is_refused_before_the_library_sees_it,
    a_message_is_sent_once_and_its_secret_finds_the_wire_id,
    every_type_is_sent_once_under_a_secret_of_its_own,
    a_message_without_its_file_is_refused_and_leaves_no_trace,
    the_secret_of_a_poll_is_there_for_its_votes,
    typing_and_reading_are_shown,
    a_call_is_told_and_can_be_declined,
    a_file_that_came_in_can_be_fetched_and_one_that_is_gone_cannot,
    it_knows_who_is_on_whatsapp,
    what_comes_in_is_written_down_and_so_are_receipts,
    a_message_that_cannot_be_written_down_is_told_so_that_the_socket_closes,
    unlinking_removes_the_device,
    being_logged_out_is_told_and_the_device_is_gone,
    being_replaced_is_told,
    calls_before_the_start_and_after_the_stop_do_nothing,
]
