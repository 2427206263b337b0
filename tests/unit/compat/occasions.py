"""Events as the log holds them, for the formats: a message object, a connection object."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.domain.ids import ConnectionId
from shared.webhooks.formats.occasion import Known, Occasion

CONNECTION = ConnectionId(UUID("5d0b9d3f-6a5e-4b0e-9c51-0a1d6fd8d6b7"))
MESSAGE = "0f5f4c1e-97f3-4b56-a0c5-2f3b1d1c8a11"
OWN = "5511988880001@s.whatsapp.net"
CONTACT = "5511977770002@s.whatsapp.net"
AT = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
UNIX = 1769860800


def message(**fields: Any) -> dict[str, Any]:
    """A text that came in; `fields` say otherwise."""
    return {
        "id": MESSAGE,
        "connection_id": str(CONNECTION),
        "message_id": "3EB0AAAA",
        "direction": "inbound",
        "jid": CONTACT,
        "phone": "5511977770002",
        "to": OWN,
        "from": CONTACT,
        "participant": None,
        "push_name": "Ana",
        "from_me": False,
        "source": "phone",
        "type": "text",
        "payload": {"text": "olá", "reply_to": None},
        "reply_to": None,
        "mentions": [],
        "status": "delivered",
        "error": None,
        "wa_message_id": "3EB0AAAA",
        "wa_timestamp": "2026-01-31T12:00:00.000Z",
        "metadata": {},
        "created_at": "2026-01-31T12:00:01.000Z",
        "sent_at": "2026-01-31T12:00:00.000Z",
        "delivered_at": "2026-01-31T12:00:01.000Z",
        "read_at": None,
        "played_at": None,
        **fields,
    }


def sent(**fields: Any) -> dict[str, Any]:
    """A text that went out through the API."""
    return message(
        **{
            "direction": "outbound",
            "message_id": MESSAGE,
            "to": CONTACT,
            "from": OWN,
            "push_name": None,
            "from_me": True,
            "source": "api",
            "payload": {"text": "oi"},
            "status": "sent",
            **fields,
        }
    )


def connection(**fields: Any) -> dict[str, Any]:
    return {
        "id": str(CONNECTION),
        "label": "loja",
        "external_id": "loja1",
        "status": "connected",
        "status_reason": None,
        "phone": "5511988880001",
        "jid": OWN,
        "push_name": "Loja",
        "config": {},
        "metadata": {},
        **fields,
    }


def occasion(type_: str, payload: Any, *, known: dict[str, Known] | None = None) -> Occasion:
    return Occasion(
        type=type_,
        payload=payload,
        at=AT,
        connection_id=CONNECTION,
        name="loja1",
        url="https://example.com/hook",
        known=known or {},
    )
