"""What is journaled of a message, a receipt, or word of a message that nobody could read; and how that is shown."""

import math
from datetime import UTC, datetime
from typing import Any, Final

from session_host.whatsapp.port import Inbound, Receipt, WireRecord
from shared.domain.ids import ConnectionId
from shared.domain.jobs import QueueName

_LID: Final = "@lid"
_NUMBER: Final = "@s.whatsapp.net"

Entry = dict[str, Any]


def entry_of(connection_id: ConnectionId, found: WireRecord) -> list[Entry]:
    """What is journaled: the jobs' data as the queues take them (docs/architecture.md, "Inbound jobs"), or an event."""
    session = str(connection_id)
    match found:
        case Inbound():
            data = {
                "sessionId": session,
                "waMessageId": found.wire_id,
                "chat": found.chat,
                "chatAlias": found.chat_alias,
                "from": found.sender,
                "senderAlias": found.sender_alias,
                "wireSender": found.wire_sender,
                "participant": found.participant,
                "pushName": _plain(found.push_name),
                "fromMe": found.from_me,
                "type": found.type,
                "content": _plain(dict(found.content)),
                "timestamp": found.timestamp_ms,
                "backfilled": found.backfilled,
            }
            return [{"queue": QueueName.MESSAGE_RECEIVE.value, "data": data}]
        case Receipt():
            return [
                {
                    "queue": QueueName.MESSAGE_STATUS.value,
                    "data": {
                        "sessionId": session,
                        "waMessageId": wire_id,
                        "status": found.status,
                        "timestamp": found.timestamp_ms,
                    },
                }
                for wire_id in found.wire_ids
            ]
    told = {
        "waMessageId": found.wire_id,
        "chat": found.chat,
        "chatAlias": found.chat_alias,
        "from": found.sender,
        "senderAlias": found.sender_alias,
        "participant": found.participant,
        "pushName": _plain(found.push_name),
        "fromMe": found.from_me,
        "timestamp": found.timestamp_ms,
        "backfilled": found.backfilled,
    }
    return [{"event": "message.undecryptable", "sessionId": session, "payload": told}]


def _plain(told: Any) -> Any:  # noqa: ANN401 - JSON is any of six types
    """What somebody wrote as JSON and Postgres can hold it: what neither can is shown as U+FFFD, a number as null.

    A contact's client may put anything there: text that is no UTF-8 (the library gives its bytes), NUL, or NaN.
    """
    match told:
        case bytes():
            return _plain(told.decode(errors="replace"))
        case str():
            return told.replace("\x00", "\ufffd") if "\x00" in told else told
        case float():
            return told if math.isfinite(told) else None
        case dict():
            return {name: _plain(value) for name, value in told.items()}
        case list():
            return [_plain(value) for value in told]
        case _:
            return told


def only_lids(entry: Entry) -> set[str]:
    """The chat and the writer, as far as they are named by an alias alone."""
    told = entry.get("data") or entry.get("payload") or {}
    return {jid for jid in (told.get("chat"), told.get("from")) if jid is not None and jid.endswith(_LID)}


def numbered(entry: Entry, numbers: dict[str, str]) -> Entry:
    """The entry with these numbers in place of the aliases, which stay beside them."""
    part = "data" if "data" in entry else "payload"
    told = dict(entry[part])
    for name, alias in (("chat", "chatAlias"), ("from", "senderAlias")):
        if (lid := told.get(name)) in numbers:
            told |= {name: numbers[lid], alias: lid}
            if name == "from" and told.get("participant") == lid:
                told["participant"] = numbers[lid]
    return {**entry, part: told}


def shown(session: ConnectionId, told: dict[str, Any]) -> dict[str, Any]:
    """What an event says of a message that nobody could read: as a message's object names it, after its first three."""
    chat, at = told["chat"], datetime.fromtimestamp(told["timestamp"] / 1000, UTC)
    from_me, is_group = bool(told.get("fromMe")), told.get("participant") is not None
    return {
        "waMessageId": told["waMessageId"],
        "chat": chat,
        "timestamp": told["timestamp"],
        "connection_id": str(session),
        "direction": "outbound" if from_me else "inbound",
        "jid": chat,
        "phone": chat.partition("@")[0] if chat.endswith(_NUMBER) else None,
        "lid": None if is_group else chat if chat.endswith(_LID) else told.get("chatAlias"),
        "from": told.get("from"),
        "participant": told.get("participant"),
        "participant_lid": told.get("senderAlias") if is_group else None,
        "push_name": told.get("pushName"),
        "from_me": from_me,
        "source": "phone",
        "backfilled": bool(told.get("backfilled")),
        "wa_message_id": told["waMessageId"],
        "wa_timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
