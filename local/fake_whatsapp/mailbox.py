"""What waits for each linked device, in order, until the device acknowledges it."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from local.fake_whatsapp.protocol.node import USER_SERVER
from local.fake_whatsapp.signal.conversation import Sealed
from local.fake_whatsapp.store import Store

MESSAGE = "message"
RECEIPT = "receipt"
# A device may ask again for a message that it acknowledged but could not decrypt.
REMEMBERED_MESSAGES = 500

INSERT = """
INSERT INTO letter (seq, phone, contact, kind, wire_id, body, due_at_ms, chat, garbled, device, enc_type, enc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', x'')
"""
LOAD = """
SELECT seq, phone, contact, kind, wire_id, body, due_at_ms, device, enc_type, enc, chat, garbled
  FROM letter ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One stanza for a device: a message's plaintext, or a receipt's type, in `body`; `chat` is a group, or empty.

    Where the phone itself wrote to a person, `contact` is the phone and `chat` that person's JID. `garbled`: the
    device cannot decrypt it.
    """

    seq: int
    phone: str
    contact: str
    kind: str
    wire_id: str
    body: bytes
    due_at_ms: int
    device: int = 0
    sealed: Sealed | None = None
    chat: str = ""
    garbled: bool = False

    @property
    def is_own_copy(self) -> bool:
        """Whether it is what the phone itself wrote to a person, for its linked device to know."""
        return self.chat.endswith(f"@{USER_SERVER}")


class Mailbox:
    """Letters of all phones. Once sealed for a device, a letter is sent again as the same bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, dict[int, Letter]] = {}
        self._remembered: OrderedDict[tuple[str, str], Letter] = OrderedDict()
        self._next_seq = 1
        for seq, phone, contact, kind, wire_id, body, due_at_ms, device, enc_type, enc, chat, garbled in store.read(
            LOAD
        ):
            sealed = Sealed(enc_type, enc) if enc else None
            stamped = (seq, phone, contact, kind, wire_id, body, due_at_ms)
            self._waiting.setdefault(phone, {})[seq] = Letter(*stamped, device, sealed, chat, bool(garbled))
            self._next_seq = seq + 1

    def post(
        self,
        phone: str,
        *,
        contact: str,
        kind: str,
        wire_id: str,
        body: bytes,
        delay_ms: int = 0,
        chat: str = "",
        garbled: bool = False,
    ) -> Letter:
        """Keep one more letter, which may go after the delay, or was written so long ago where that is negative.

        The caller waits for the disk and wakes the session.
        """
        stamped = (self._next_seq, phone, contact, kind, wire_id, body, now_ms() + delay_ms)
        letter = Letter(*stamped, chat=chat, garbled=garbled)
        self._next_seq += 1
        self._waiting.setdefault(phone, {})[letter.seq] = letter
        self._store.write(INSERT, *stamped, chat, int(garbled))
        return letter

    def holds(self, phone: str, wire_id: str) -> bool:
        """Whether a message of that id waits for this phone or was lately delivered to it."""
        return (phone, wire_id) in self._remembered or bool(self._messages(phone, wire_id))

    def waiting(self, phone: str) -> list[Letter]:
        """What the device has not acknowledged, oldest first."""
        return list(self._waiting.get(phone, {}).values())

    def seal(self, letter: Letter, *, device: int, sealed: Sealed) -> Letter:
        """Remember the bytes that the device gets, now and whenever it comes back without an acknowledgement."""
        letter = replace(letter, device=device, sealed=sealed)
        self._waiting[letter.phone][letter.seq] = letter
        self._store.write(
            "UPDATE letter SET device = ?, enc_type = ?, enc = ? WHERE seq = ?",
            device,
            sealed.type,
            sealed.ciphertext,
            letter.seq,
        )
        return letter

    def let_go(self, phone: str, seq: int) -> None:
        """Forget one letter that the device has, or asks for anew; one that does not wait any more is no error."""
        letter = self._waiting.get(phone, {}).pop(seq, None)
        if letter is None:
            return
        self._store.write("DELETE FROM letter WHERE seq = ?", seq)
        if letter.kind == MESSAGE:
            self._remember(letter)

    def let_go_of_message(self, phone: str, wire_id: str) -> None:
        """Forget every copy of one message."""
        for letter in self._messages(phone, wire_id):
            self.let_go(phone, letter.seq)

    def again(self, phone: str, wire_id: str) -> Letter | None:
        """A fresh, unsealed copy of a message that the device could not decrypt, in the old one's place."""
        self.let_go_of_message(phone, wire_id)
        found = self._remembered.get((phone, wire_id))
        if found is None:
            return None
        return self.post(
            phone,
            contact=found.contact,
            kind=MESSAGE,
            wire_id=wire_id,
            body=found.body,
            delay_ms=found.due_at_ms - now_ms(),
            chat=found.chat,
        )

    def _messages(self, phone: str, wire_id: str) -> list[Letter]:
        letters = self._waiting.get(phone, {}).values()
        return [letter for letter in letters if letter.kind == MESSAGE and letter.wire_id == wire_id]

    def _remember(self, letter: Letter) -> None:
        self._remembered[letter.phone, letter.wire_id] = letter
        while len(self._remembered) > REMEMBERED_MESSAGES:
            self._remembered.popitem(last=False)


def now_ms() -> int:
    """Milliseconds since the epoch: letters outlive the process, so a monotonic clock will not do."""
    return time.time_ns() // 1_000_000
