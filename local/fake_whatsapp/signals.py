"""What a session lets contacts see beside messages: that somebody types, is online, read a message, declined a call."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from local.fake_whatsapp.protocol.node import Node
from local.fake_whatsapp.store import Store

APPEND = "INSERT INTO signal (session_phone, kind, chat, detail, received_at) VALUES (?, ?, ?, ?, ?)"
SELECT = """
SELECT seq, session_phone, kind, chat, detail, received_at
  FROM signal
 WHERE seq > ?1 AND (?2 IS NULL OR session_phone = ?2)
 ORDER BY seq
"""
# Receipts that a person caused; the others say only that the device has the message.
SEEN = frozenset({"read", "played"})


class Signals:
    """Rows are added and read, never changed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def hear_typing(self, session_phone: str, node: Node) -> None:
        """`composing` or `paused` in a chat; a voice note that is being recorded is composing audio."""
        for state in node.children:
            media = state.attrs.get("media", "text")
            self._append(session_phone, "typing", str(node.jid("to")), {"state": state.tag, "media": media})

    def hear_receipt(self, session_phone: str, node: Node, wire_ids: list[str]) -> None:
        """A receipt that says more than that the device has the message."""
        if (kind := node.attrs.get("type", "")) in SEEN:
            detail: dict[str, object] = {"wire_ids": wire_ids}
            if "participant" in node.attrs:
                detail["participant"] = str(node.jid("participant"))
            self._append(session_phone, kind, str(node.jid("to")), detail)

    def hear_presence(self, session_phone: str, node: Node) -> None:
        """Online or not, to everybody at once."""
        self._append(
            session_phone, "presence", "", {"state": node.attrs.get("type", ""), "name": node.attrs.get("name")}
        )

    def hear_call(self, session_phone: str, node: Node) -> None:
        """What becomes of a call; `reject` is all that a client without a voice can say."""
        for answer in node.children:
            if answer.tag == "reject":
                detail: dict[str, object] = {"call_id": answer.attrs.get("call-id", "")}
                self._append(session_phone, "call_rejected", str(node.jid("to")), detail)

    def rows(self, *, session_phone: str | None, after: int) -> list[dict[str, object]]:
        """What is on disk, in order of arrival; blocks, so call it in a thread."""
        return [
            {
                "seq": seq,
                "session_phone": phone,
                "kind": kind,
                "chat": chat,
                **json.loads(detail),
                "received_at": received_at,
            }
            for seq, phone, kind, chat, detail, received_at in self._store.read(SELECT, after, session_phone)
        ]

    def _append(self, session_phone: str, kind: str, chat: str, detail: dict[str, object]) -> None:
        now = datetime.now(UTC).isoformat()
        self._store.write(APPEND, session_phone, kind, chat, json.dumps(detail), now)
