"""The append-only log of what sessions sent to contacts and groups."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from local.fake_whatsapp.store import Store

APPEND = """
INSERT INTO wire (wire_id, session_phone, recipient, type, text, payload, received_at, resend, bot_tag)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, EXISTS (SELECT 1 FROM wire WHERE session_phone = ?2 AND wire_id = ?1), ?8
"""
# A frame that comes again when its key is forgotten cannot be decrypted: its content is that of the first row.
APPEND_DUPLICATE = """
INSERT INTO wire (wire_id, session_phone, recipient, type, text, payload, received_at, resend, bot_tag)
SELECT wire_id, session_phone, recipient, type, text, payload, ?4, 1, ?5
  FROM wire
 WHERE session_phone = ?2 AND wire_id = ?1 AND recipient = ?3
 ORDER BY seq DESC
 LIMIT 1
"""
RECIPIENT = "SELECT recipient FROM wire WHERE session_phone = ? AND wire_id = ? LIMIT 1"
SELECT = """
SELECT seq, wire_id, session_phone, recipient, type, text, payload, received_at, resend, bot_tag
  FROM wire
 WHERE seq > ?1 AND (?2 IS NULL OR session_phone = ?2) AND (?3 IS NULL OR recipient = ?3)
 ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says: a type of the API, its text when it is one, and the payload that the type has."""

    type: str
    payload: dict[str, Any] = field(default_factory=dict)  # JSON whose shape the type decides

    @property
    def text(self) -> str | None:
        return self.payload["text"] if self.type == "text" else None


@dataclass(frozen=True, slots=True)
class Stanza:
    """One message stanza: `recipient` is a phone, or a group's JID.

    `bot_tag` says that the stanza marks its message as an AI's, which phones show to the reader.
    """

    wire_id: str
    session_phone: str
    recipient: str
    received_at: str
    bot_tag: bool


class WireLog:
    """Rows are added and read, never changed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, stanza: Stanza, content: Content) -> None:
        payload = json.dumps(content.payload)
        self._store.write(
            APPEND,
            stanza.wire_id,
            stanza.session_phone,
            stanza.recipient,
            content.type,
            content.text,
            payload,
            stanza.received_at,
            int(stanza.bot_tag),
        )

    def append_duplicate(self, stanza: Stanza) -> None:
        """The same frame came again: the row says what the first one said."""
        self._store.write(
            APPEND_DUPLICATE,
            stanza.wire_id,
            stanza.session_phone,
            stanza.recipient,
            stanza.received_at,
            int(stanza.bot_tag),
        )

    def recipient_of(self, session_phone: str, wire_id: str) -> str | None:
        """To whom the session sent the message of that id; blocks, so call it in a thread."""
        found = self._store.read(RECIPIENT, session_phone, wire_id)
        return found[0][0] if found else None

    def rows(self, *, session_phone: str | None, contact: str | None, after: int) -> list[dict[str, object]]:
        """What is on disk, in order of arrival; blocks, so call it in a thread."""
        return [
            {
                "seq": seq,
                "wire_id": wire_id,
                "session_phone": phone,
                "to": recipient,
                "type": kind,
                "text": text,
                "payload": json.loads(payload),
                "received_at": received_at,
                "resend": bool(resend),
                "bot_tag": bool(bot_tag),
            }
            for seq, wire_id, phone, recipient, kind, text, payload, received_at, resend, bot_tag in self._store.read(
                SELECT, after, session_phone, contact
            )
        ]
