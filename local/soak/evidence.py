"""The independent checker: what clients were promised, against the wire, the API's rows and the webhooks."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from local.demo.sink import Sink, Webhook

# Any: rows of JSON, described in docs/api.md.
Row = dict[str, Any]
DOUBT: Final = "unknown"
# The message is at WhatsApp, whatever its receipts say later.
SENT: Final = frozenset({"sent", "delivered", "read", "played"})


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that a client sent or a contact wrote. No two of a run have the same text, no two sessions a chat.

    `at_s`: when, by the monotonic clock of whoever runs it.
    """

    chat: str
    text: str
    at_s: float = 0.0


@dataclass(slots=True)
class Ledger:
    """What happened as those saw it who made it happen, in the order of each chat.

    `again`: texts that a person sent once more, in that order, as they were in doubt and the phone did not have them.
    """

    accepted: list[Letter] = field(default_factory=list)
    written: list[Letter] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What each side says at one moment."""

    ledger: Ledger
    outbound: Sequence[Row]
    inbound: Sequence[Row]
    wire: Sequence[Row]
    sink: Sink


@dataclass(frozen=True, slots=True)
class Findings:
    """Texts, each in the list of what is wrong with it; `frames` is frames on the wire by their number per message."""

    accepted: int
    lost: list[str]
    doubled: list[str]
    out_of_order: list[str]
    wrong_status: list[str]
    in_doubt: list[str]
    went_through_doubt: int
    frames: dict[int, int]
    written: int
    swallowed: list[str]
    stored_twice: list[str]
    webhooks_wrong: list[str]

    @property
    def holds(self) -> bool:
        """Whether nothing is lost, doubled, out of order or wrongly told. Doubts and what was swallowed are listed."""
        wrong = (self.lost, self.doubled, self.out_of_order, self.wrong_status, self.stored_twice, self.webhooks_wrong)
        return not any(wrong)


def findings(evidence: Evidence) -> Findings:
    """Count. `lost`: accepted and never on the wire. `doubled`: there under two ids, so that phones show it twice.

    `swallowed`: written by a contact and not stored. The library acknowledges before it hands a message over, so what
    it holds when its process is killed is lost to any program; one that was written at another time is ours to explain.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    for row in evidence.wire:
        ids[row["text"]].add(row["wire_id"])
    frames = Counter(row["text"] for row in evidence.wire)
    status = {row["message_id"]: row["status"] for row in evidence.outbound}
    stored = Counter(row["payload"]["text"] for row in evidence.inbound)
    accepted = [letter.text for letter in evidence.ledger.accepted]
    written = [letter.text for letter in evidence.ledger.written]
    return Findings(
        accepted=len(accepted),
        lost=[text for text in accepted if not frames[text]],
        doubled=[text for text in accepted if len(ids[text]) > 1],
        out_of_order=[
            *_disorder(_in_their_place(evidence.ledger), evidence.wire, "wire"),
            *_disorder_of_webhooks(evidence.ledger.written, evidence.sink),
        ],
        wrong_status=[f"{text} is {status.get(text)}" for text in accepted if status.get(text) not in {*SENT, DOUBT}],
        in_doubt=[text for text in accepted if status.get(text) == DOUBT],
        went_through_doubt=sum(one.event == "message.unknown" for one in evidence.sink.webhooks.values()),
        frames=dict(sorted(Counter(frames[text] for text in accepted).items())),
        written=len(written),
        swallowed=[text for text in written if not stored[text]],
        stored_twice=[text for text, count in stored.items() if count > 1],
        webhooks_wrong=[*evidence.sink.wrong, *_about_webhooks(stored, evidence.sink)],
    )


def _in_their_place(ledger: Ledger) -> Iterator[Letter]:
    """The letters as they should be on the wire: what a person sends again comes behind its chat."""
    yield from (letter for letter in ledger.accepted if letter.text not in ledger.again)
    chats = {letter.text: letter.chat for letter in ledger.accepted}
    yield from (Letter(chats[text], text) for text in ledger.again)


def _disorder(letters: Iterable[Letter], rows: Iterable[Row], where: str) -> Iterator[str]:
    """Chats whose messages came in another order than they were accepted; a frame that is repeated counts once."""
    intended: dict[str, list[str]] = defaultdict(list)
    for letter in letters:
        intended[letter.chat].append(letter.text)
    arrived: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        arrived[row["to"]].setdefault(row["text"])
    for chat, texts in arrived.items():
        expected = [text for text in intended[chat] if text in texts]
        order = list(texts)
        if order != expected:
            pairs = enumerate(zip(order, expected, strict=False))
            at = next((number for number, (one, other) in pairs if one != other), len(expected))
            yield f"{where}, chat {chat}, from its number {at + 1} on: {', '.join(order[at : at + 3])}"


def _disorder_of_webhooks(written: Iterable[Letter], sink: Sink) -> Iterator[str]:
    """Webhooks carry a number; by it they tell what came in, in the order in which it was written."""
    told = sorted(_received(sink), key=lambda one: (one.body["sessionId"], one.sequence))
    rows = [{"to": one.body["payload"]["phone"], "text": one.body["payload"]["payload"]["text"]} for one in told]
    yield from _disorder(written, rows, "webhooks")


def _about_webhooks(stored: Counter[str], sink: Sink) -> Iterator[str]:
    told = Counter(one.body["payload"]["payload"]["text"] for one in _received(sink))
    for text in stored:
        if told[text] != 1:
            yield f"{text}, received, made {told[text]} webhooks"


def _received(sink: Sink) -> list[Webhook]:
    return [one for one in sink.webhooks.values() if one.event == "message.received"]
