"""One connection's mail: what may go to the device now, and which letter an acknowledgement means."""

from __future__ import annotations

from collections import deque

from local.fake_whatsapp import mailbox
from local.fake_whatsapp.mailbox import Letter, Mailbox
from local.fake_whatsapp.protocol.node import Node

DELIVERED = "delivered"


class Deliveries:
    """The letters of one phone, each sent once on this connection.

    An acknowledgement names an id, and two letters may bear the same one: a client that cannot read a message asks
    for it again and acknowledges the copy that it could not read, in either order (whatsmeow does both at once).
    Taken for the new copy, that acknowledgement would throw away a message that the client never saw; hence it is
    the oldest letter with that id that it means.
    """

    def __init__(self, box: Mailbox, phone: str) -> None:
        self._mailbox = box
        self._phone = phone
        self._sent: set[int] = set()
        self._unanswered: dict[tuple[str, str, str], deque[int]] = {}

    def due(self) -> tuple[list[Letter], float | None]:
        """What may go now, in order, and the seconds until the next letter may; None when none waits."""
        now_ms = mailbox.now_ms()
        waiting = [letter for letter in self._mailbox.waiting(self._phone) if letter.seq not in self._sent]
        later = [letter.due_at_ms - now_ms for letter in waiting if letter.due_at_ms > now_ms]
        return [letter for letter in waiting if letter.due_at_ms <= now_ms], min(later) / 1000 if later else None

    def sending(self, letter: Letter) -> None:
        """The letter goes out now. Call it before: the answer may be faster than the sender's next step."""
        self._sent.add(letter.seq)
        receipt_type = letter.body.decode() if letter.kind == mailbox.RECEIPT else ""
        self._unanswered.setdefault((letter.kind, letter.wire_id, receipt_type), deque()).append(letter.seq)

    def hear_ack(self, ack: Node) -> None:
        """Let go of the letter that the client has; an acknowledgement of nothing that was sent is no error."""
        kind = ack.attrs.get("class", "")
        receipt_type = ack.attrs.get("type", DELIVERED) if kind == mailbox.RECEIPT else ""
        unanswered = self._unanswered.get((kind, ack.attrs["id"], receipt_type))
        if unanswered:
            self._mailbox.let_go(self._phone, unanswered.popleft())
