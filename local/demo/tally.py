"""What happened, counted from four sides: what was to be sent, the API, the wire and the webhooks."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from local.demo.sink import Sink

# Any: rows of JSON, described in the contract.
Row = dict[str, Any]
_DELIVERED = frozenset({"delivered", "read", "played"})
_READ = frozenset({"read", "played"})


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the demo; no two have the same text. `phone` is whom it goes to or comes from."""

    phone: str
    text: str
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What each side says at one moment."""

    letters: Sequence[Letter]
    accepted: frozenset[str]  # message ids that the API answered with a message
    inbound: Sequence[Letter]
    outbound_rows: Sequence[Row]
    inbound_rows: Sequence[Row]
    wire: Sequence[Row]
    sink: Sink


@dataclass(frozen=True, slots=True)
class Tally:
    """The table, and every reason why it does not hold."""

    accepted: int
    on_the_wire: int
    delivered: int
    read: int
    received: int
    webhooks: int
    lost: int
    doubled: int
    complaints: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything happened exactly as it should."""
        return not self.complaints


def tally(evidence: Evidence) -> Tally:
    """Count, and say what does not hold yet."""
    on_wire = Counter(row["text"] for row in evidence.wire)
    status = {row["message_id"]: row["status"] for row in evidence.outbound_rows}
    stored = Counter(_text(row) for row in evidence.inbound_rows)
    accepted = [letter for letter in evidence.letters if letter.message_id in evidence.accepted]
    return Tally(
        accepted=len(accepted),
        on_the_wire=sum(on_wire[letter.text] > 0 for letter in evidence.letters),
        delivered=sum(status.get(letter.message_id) in _DELIVERED for letter in evidence.letters),
        read=sum(status.get(letter.message_id) in _READ for letter in evidence.letters),
        received=sum(stored[letter.text] > 0 for letter in evidence.inbound),
        webhooks=len(evidence.sink.webhooks),
        lost=sum(on_wire[letter.text] == 0 for letter in accepted)
        + sum(stored[letter.text] == 0 for letter in evidence.inbound),
        doubled=sum(max(0, on_wire[letter.text] - 1) for letter in evidence.letters)
        + sum(max(0, stored[letter.text] - 1) for letter in evidence.inbound),
        complaints=(
            *_about_sends(evidence, status),
            *_about_the_wire(evidence, on_wire),
            *_about_the_received(evidence, stored),
            *_about_webhooks(evidence),
        ),
    )


def _about_sends(evidence: Evidence, status: dict[str, str]) -> Iterator[str]:
    for letter in evidence.letters:
        if letter.message_id not in evidence.accepted:
            yield f"{letter.text!r} was not accepted"
        elif status.get(letter.message_id) not in _READ:
            yield f"{letter.text!r} is {status.get(letter.message_id, 'not stored')}, not read"


def _about_the_wire(evidence: Evidence, on_wire: Counter[str]) -> Iterator[str]:
    for letter in evidence.letters:
        if on_wire[letter.text] != 1:
            yield f"{letter.text!r} was on the wire {on_wire[letter.text]} times"
    chats: dict[str, list[str]] = defaultdict(list)
    for row in evidence.wire:
        chats[row["to"]].append(row["text"])
    for phone in {letter.phone for letter in evidence.letters}:
        intended = [letter.text for letter in evidence.letters if letter.phone == phone]
        arrived = list(dict.fromkeys(chats.pop(phone, [])))
        if arrived != [text for text in intended if on_wire[text]]:
            yield f"the chat with {phone} is out of order: {arrived}"
    if chats:
        yield f"somebody else was written to: {', '.join(chats)}"


def _about_the_received(evidence: Evidence, stored: Counter[str]) -> Iterator[str]:
    for letter in evidence.inbound:
        if stored[letter.text] != 1:
            yield f"{letter.text!r}, received, was stored {stored[letter.text]} times"


def _about_webhooks(evidence: Evidence) -> Iterator[str]:
    webhooks = evidence.sink.webhooks.values()
    received = Counter(_text(one.body["payload"]) for one in webhooks if one.event == "message.received")
    read = Counter(one.body["payload"]["message_id"] for one in webhooks if one.event == "message.read")
    yield from evidence.sink.wrong
    for letter in evidence.inbound:
        if received[letter.text] != 1:
            yield f"{letter.text!r} made {received[letter.text]} webhooks of message.received"
    for letter in evidence.letters:
        if read[letter.message_id] != 1:
            yield f"{letter.text!r} made {read[letter.message_id]} webhooks of message.read"
    yield from _about_numbers(one.sequence for one in webhooks)


def _about_numbers(sequences: Iterable[int]) -> Iterator[str]:
    times = Counter(sequences)
    if missing := sorted(set(range(1, max(times, default=0) + 1)) - set(times)):
        yield f"webhooks are missing: numbers {', '.join(map(str, missing))}"
    if twice := sorted(number for number, count in times.items() if count > 1):
        yield f"two webhooks have the same number: {', '.join(map(str, twice))}"


def _text(message: Row) -> str:
    return str(message["payload"].get("text"))
