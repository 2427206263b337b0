"""Takes a message stanza from a session: opens it for its contact, writes it down, and lets the contact answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from google.protobuf.message import DecodeError

from local.fake_whatsapp import content, groups, mailbox
from local.fake_whatsapp.conversations import sealed_for
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.faults import Fault, FaultKind
from local.fake_whatsapp.phones import number_of
from local.fake_whatsapp.protocol.node import GROUP_SERVER, Node
from local.fake_whatsapp.protocol.protos import Message
from local.fake_whatsapp.signal.fields import MalformedMessage
from local.fake_whatsapp.signal.ratchet import DuplicateMessage, WrongSession
from local.fake_whatsapp.wire_log import Content, Stanza

log = structlog.get_logger()

UNDECRYPTABLE = Content("undecryptable")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the session hears of its stanza once the disk has it: an ack, an error, later, or nothing."""

    error: int | None = None
    delay_s: float = 0.0
    is_silent: bool = False


def accept(exchange: Exchange, device: Device, message: Node) -> Verdict:
    """Take one stanza. Everything that it changes is queued for the disk when this returns.

    A stanza that a fault refuses with an error leaves no trace: it was not accepted.
    Raises LookupError when the stanza lacks what a message must have.
    """
    to = message.jid("to")
    wire_id = message.attrs["id"]
    is_group = to.server == GROUP_SERVER
    recipient = str(to) if is_group else number_of(to)
    if recipient == device.phone and message.attrs.get("category") == "peer":
        return Verdict()
    fault = exchange.faults.take_for_message(device.phone, recipient)
    if fault is not None and fault.kind is FaultKind.ACK_ERROR:
        return Verdict(error=fault.code)

    received_at = datetime.now(UTC).isoformat()
    stanza = Stanza(wire_id, device.phone, recipient, received_at, bot_tag=message.child("bot") is not None)
    open_message = groups.open_message if is_group else _open_direct
    try:
        plaintext = open_message(exchange, device, message)
        found = content.read(Message.FromString(plaintext), exchange.media)
    except DuplicateMessage:
        exchange.wire.append_duplicate(stanza)
    except (WrongSession, MalformedMessage, DecodeError) as error:
        log.warning("message_undecryptable", wire_id=wire_id, reason=str(error))
        exchange.wire.append(stanza, UNDECRYPTABLE)
        if not is_group:
            _answer(exchange, stanza, receipts=("retry",))
    else:
        if found is not None:
            _file(exchange, stanza, plaintext, found)
    return _verdict(fault)


def _open_direct(exchange: Exchange, device: Device, message: Node) -> bytes:
    """The plaintext for the contact's phone; copies for the session's own devices stay closed."""
    number = number_of(message.jid("to"))
    return exchange.conversations.unseal(number, device.phone, sealed_for(number, message))


def _file(exchange: Exchange, stanza: Stanza, plaintext: bytes, found: Content) -> None:
    exchange.wire.append(stanza, found)
    if found.type == "poll":
        exchange.polls.keep(stanza.session_phone, stanza.wire_id, Message.FromString(plaintext))
    if GROUP_SERVER in stanza.recipient:
        for member in exchange.groups.get(stanza.recipient).members:
            _answer(exchange, stanza, receipts=exchange.contacts.get(member).auto_receipts, member=member)
        return
    _answer(exchange, stanza, receipts=exchange.contacts.get(stanza.recipient).auto_receipts)
    if exchange.devices.get(stanza.recipient) and stanza.recipient != stanza.session_phone:
        _forward(exchange, stanza, plaintext)


def _answer(exchange: Exchange, stanza: Stanza, *, receipts: tuple[str, ...], member: str | None = None) -> None:
    """The receipts of the contact, or of a member of the group, one delay after another."""
    contact = member or stanza.recipient
    delay_ms = exchange.contacts.get(contact).receipt_delay_ms
    for turn, receipt_type in enumerate(receipts, start=1):
        exchange.mailbox.post(
            stanza.session_phone,
            contact=contact,
            chat=stanza.recipient if member else "",
            kind=mailbox.RECEIPT,
            wire_id=stanza.wire_id,
            body=receipt_type.encode(),
            delay_ms=turn * delay_ms,
        )


def _forward(exchange: Exchange, stanza: Stanza, plaintext: bytes) -> None:
    """The contact is itself a session here: its linked device gets the message from the sender's phone."""
    if exchange.mailbox.holds(stanza.recipient, stanza.wire_id):
        return
    exchange.mailbox.post(
        stanza.recipient,
        contact=stanza.session_phone,
        kind=mailbox.MESSAGE,
        wire_id=stanza.wire_id,
        body=plaintext,
    )


def _verdict(fault: Fault | None) -> Verdict:
    match fault:
        case Fault(kind=FaultKind.NO_ACK):
            return Verdict(is_silent=True)
        case Fault(kind=FaultKind.ACK_DELAY):
            return Verdict(delay_s=fault.ms / 1000)
    return Verdict()
