"""Examples of bodies in the OpenAPI document, by operation; a test sends each through its schema and its parser."""

from collections.abc import Mapping
from typing import Any, Final

from api.shapes import CONNECTION_ID

_TO: Final = {"to": "5511987654321"}
_TEXT: Final = {**_TO, "type": "text", "payload": {"text": "Your order is ready."}}

BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "create_connection": {
        "by_qr_code": {"label": "Shop"},
        "by_typed_code": {
            "label": "Shop",
            "external_id": "customer-42",
            "pairing": {"method": "code", "phone": "5511987654321"},
            "webhook_url": "https://example.com/zaphub",
            "config": {"send_rate_per_minute": 30},
            "metadata": {"team": "sales"},
        },
    },
    "patch_connection": {
        "another_label": {"label": "Shop, south"},
        "slower": {"config": {"send_rate_per_minute": 10}},
        "no_webhook": {"webhook_url": None},
    },
    "show_pair_code": {"phone": {"phone": "5511987654321"}},
    "send": {
        "text": _TEXT,
        "once": {**_TEXT, "message_id": "order-1001", "metadata": {"order": 1001}},
        "later": {**_TEXT, "send_at": "2030-01-31T12:00:00Z", "ttl_seconds": 3600},
        "location": {**_TO, "type": "location", "payload": {"latitude": -23.55, "longitude": -46.63, "name": "Shop"}},
        "contact": {**_TO, "type": "contact", "payload": {"name": "Ana", "phone": "5511912345678"}},
        "reaction": {**_TO, "type": "reaction", "payload": {"message_id": "order-1001", "emoji": "👍"}},
        "poll": {**_TO, "type": "poll", "payload": {"question": "When?", "options": ["today", "tomorrow"]}},
        "edit": {**_TO, "type": "edit", "payload": {"message_id": "order-1001", "text": "It is ready."}},
        "revoke": {**_TO, "type": "revoke", "payload": {"message_id": "order-1001"}},
        "image_by_url": {**_TO, "type": "image", "payload": {"url": "https://example.com/a.png", "caption": "Menu"}},
    },
    "send_batch": {"two": {"messages": [_TEXT, {**_TEXT, "to": "5511912345678"}]}},
    "resolve_message": {"it_was_sent": {"outcome": "sent"}, "it_was_not": {"outcome": "not_sent"}},
    "cancel_messages": {
        "a_campaign": {"filter": {"metadata": {"campaign": "spring"}}},
        "only_count": {"filter": {"connection_id": CONNECTION_ID, "status": "queued"}, "dry_run": True},
    },
    "retry_messages": {
        "of_one_error": {"filter": {"status": "dlq", "error_code": "HOST_UNREACHABLE"}},
        "of_a_day": {"filter": {"created_after": "2026-01-31T00:00:00Z", "created_before": "2026-02-01T00:00:00Z"}},
    },
    "clean_queues": {"a_day_old": {"state": "completed", "older_than_seconds": 86400}},
    "clean_queue": {"a_week_old": {"state": "failed", "older_than_seconds": 604800}},
    "retry_failed": {
        "all": {},
        "a_hundred_of_one_connection": {"filter": {"connection_id": CONNECTION_ID}, "limit": 100},
    },
    "create_webhook": {
        "messages_and_sessions": {"url": "https://example.com/zaphub", "events": ["message.*", "session.*"]},
        "with_a_header": {
            "url": "https://example.com/zaphub",
            "events": ["message.received"],
            "connection_ids": [CONNECTION_ID],
            "headers": {"Authorization": "Bearer 3f9c"},
            "order": "chat",
        },
    },
    "patch_webhook": {"other_events": {"events": ["message.received"]}},
    "rotate_webhook_secret": {"within_an_hour": {"grace_seconds": 3600}, "at_once": {"grace_seconds": 0}},
    "replay_webhook": {"a_morning": {"since": "2026-01-31T00:00:00Z", "until": "2026-01-31T12:00:00Z"}},
    "create_api_key": {
        "one_that_sends": {"name": "CRM", "scopes": ["messages:write", "messages:read"]},
        "of_one_connection": {
            "name": "Shop",
            "scopes": ["messages:write"],
            "connection_ids": [CONNECTION_ID],
            "expires_at": "2030-01-01T00:00:00Z",
        },
    },
    "patch_api_key": {
        "fewer_scopes": {"scopes": ["messages:read"]},
        "until_the_year_s_end": {"expires_at": "2030-01-01T00:00:00Z"},
    },
    "show_typing": {"writes": {**_TO, "state": "composing"}},
    "mark_read": {"one": {"message_ids": ["9b5c1c1e-5a0f-4b55-8a53-0a9a5d1f6c10"]}},
    "check_numbers": {"two": {"phones": ["5511987654321", "5511912345678"]}},
}
