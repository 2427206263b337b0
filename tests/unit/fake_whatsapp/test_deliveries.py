"""What a client acknowledges is taken for the copy that it was given, in whichever order its words arrive."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from local.fake_whatsapp import mailbox
from local.fake_whatsapp.deliveries import Deliveries
from local.fake_whatsapp.mailbox import Letter, Mailbox
from local.fake_whatsapp.protocol.node import Node
from local.fake_whatsapp.store import Store

PHONE, WIRE_ID = "5511988887777", "3A01"
ACK = Node("ack", {"class": "message", "id": WIRE_ID})
ACK_OF_DELIVERED = Node("ack", {"class": "receipt", "id": WIRE_ID})
ACK_OF_RETRY = Node("ack", {"class": "receipt", "id": WIRE_ID, "type": "retry"})


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Mailbox]:
    store = Store(tmp_path / "fake.sqlite3")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run)
        yield Mailbox(store)
        store.stop()


@pytest.fixture
def deliveries(box: Mailbox) -> Deliveries:
    return Deliveries(box, PHONE)


def message(box: Mailbox) -> Letter:
    return box.post(PHONE, contact="5511999990001", kind=mailbox.MESSAGE, wire_id=WIRE_ID, body=b"hello")


def receipt(box: Mailbox, receipt_type: bytes) -> Letter:
    return box.post(PHONE, contact="5511999990001", kind=mailbox.RECEIPT, wire_id=WIRE_ID, body=receipt_type)


def send_all(deliveries: Deliveries) -> list[Letter]:
    due, _ = deliveries.due()
    for letter in due:
        deliveries.sending(letter)
    return due


async def test_a_letter_goes_once_on_a_connection_and_again_on_the_next(box: Mailbox, deliveries: Deliveries) -> None:
    letter = message(box)

    assert send_all(deliveries) == [letter]
    assert send_all(deliveries) == []
    assert send_all(Deliveries(box, PHONE)) == [letter]


@pytest.mark.parametrize("is_acknowledged_first", [True, False])
async def test_a_message_that_the_client_could_not_read_goes_again(
    box: Mailbox, deliveries: Deliveries, *, is_acknowledged_first: bool
) -> None:
    message(box)
    send_all(deliveries)

    if is_acknowledged_first:
        deliveries.hear_ack(ACK)
    again = box.again(PHONE, WIRE_ID)
    if not is_acknowledged_first:
        deliveries.hear_ack(ACK)

    assert send_all(deliveries) == [again]
    deliveries.hear_ack(ACK)
    assert box.waiting(PHONE) == []


async def test_a_late_acknowledgement_of_the_first_copy_leaves_the_second_one_waiting(
    box: Mailbox, deliveries: Deliveries
) -> None:
    message(box)
    send_all(deliveries)
    again = box.again(PHONE, WIRE_ID)
    send_all(deliveries)

    deliveries.hear_ack(ACK)

    assert box.waiting(PHONE) == [again]


async def test_a_message_that_was_read_leaves_no_copy(box: Mailbox, deliveries: Deliveries) -> None:
    message(box)
    send_all(deliveries)
    box.again(PHONE, WIRE_ID)

    box.let_go_of_message(PHONE, WIRE_ID)

    assert send_all(deliveries) == []


async def test_acknowledging_one_receipt_leaves_the_others_of_that_message(
    box: Mailbox, deliveries: Deliveries
) -> None:
    receipt(box, b"delivered")
    read = receipt(box, b"read")
    receipt(box, b"retry")
    send_all(deliveries)
    second_retry = receipt(box, b"retry")

    deliveries.hear_ack(ACK_OF_DELIVERED)
    deliveries.hear_ack(ACK_OF_RETRY)

    assert box.waiting(PHONE) == [read, second_retry]
    assert send_all(deliveries) == [second_retry]


async def test_an_acknowledgement_of_what_was_not_sent_changes_nothing(box: Mailbox, deliveries: Deliveries) -> None:
    letter = message(box)

    deliveries.hear_ack(ACK)
    deliveries.hear_ack(Node("ack", {"class": "notification", "id": WIRE_ID}))

    assert box.waiting(PHONE) == [letter]
