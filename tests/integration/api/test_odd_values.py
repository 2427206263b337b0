"""Every field with every odd value: an answer below 500, and a problem when it is refused."""

import json
from typing import Any, Final

import httpx
import pytest

ODD: Final = (
    *("null", "true", "0", "-1", "1.5", "1e308", "9223372036854775807", '""', '" "', '"x"', '"\\u202e"', "[]", "{}"),
    *("[null]", "[[]]", '{"": null}', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"NaN"'),
    *('"5511987654321@s.whatsapp.net"', '"💥"', '"' + "x" * 300 + '"', '"%00"', "[" * 20 + "]" * 20),
    *('"00000000-0000-0000-0000-000000000000"', '["x", "x"]', '{"text": {"text": "a"}}', "1e-400", "-0.0"),
)
SEND: Final[dict[str, Any]] = {
    "to": "5511987654321", "type": "text", "payload": {"text": "a"}, "message_id": "m", "priority": 1,
    "send_at": "2030-01-01T00:00:00Z", "ttl_seconds": 5, "order": "chat", "reply_to": "m", "mentions": [],
    "if_offline": "park", "on_unknown": "hold", "metadata": {},
}  # fmt: skip
CONNECTION: Final[dict[str, Any]] = {
    "label": "a", "external_id": "x", "webhook_url": "https://192.0.2.1/", "webhook_secret": "whsec_" + "QUJD" * 10,
    "config": {}, "pairing": {"method": "qr"}, "metadata": {},
}  # fmt: skip
RETRY: Final[dict[str, Any]] = {"ids": ["a"], "filter": {}, "limit": 1, "dry_run": True}
MESSAGE_FILTER: Final = (
    "connection_id",
    "status",
    "error_code",
    "jid",
    "created_after",
    "created_before",
    "metadata",
    "x",
)
JOB_FILTER: Final = ("connection_id", "group", "error_code", "created_after", "created_before", "x")
KEY: Final[dict[str, Any]] = {"name": "a", "scopes": ["admin"], "connection_ids": None, "expires_at": None}
QUERIES: Final = (
    "/connections?status={}", "/connections?external_id={}", "/connections?limit={}", "/connections?cursor={}",
    "/api-keys?cursor={}", "/queues/message:send/jobs?state={}", "/queues/message:send/jobs?cursor={}", "/jobs/{}",
    "/queues/{}", "/connections/{}", "/messages/{}", "/connections/{}/qr?wait=0",
    "/events?after={}", "/events?cursor={}", "/events?type={}", "/events?connection_id={}", "/events/stream?ticket={}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("{connection}/send", SEND),
        ("/connections", CONNECTION),
        ("/queues/session:init/retry-failed", RETRY),
        ("/api-keys", KEY),
        ("/queues/clean", {"state": "completed", "older_than_seconds": 1}),
        ("{connection}/pair-code", {"phone": "5511987654321"}),
        ("/messages/cancel", {"filter": {"status": "queued"}, "dry_run": True}),
        ("/messages/retry", {"filter": {"status": "dlq"}, "dry_run": False}),
    ],
)
async def test_no_odd_value_in_a_body_is_a_fault_of_ours(
    api: httpx.AsyncClient, connection: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    url = path.format(connection=f"/connections/{connection['id']}")
    for name in body:
        for odd in ODD:
            rest = json.dumps({key: value for key, value in body.items() if key != name})
            content = f'{{"{name}": {odd}, {rest[1:]}' if rest != "{}" else f'{{"{name}": {odd}}}'
            answer = await api.post(url, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500 or answer.json()["code"] == "HOST_UNREACHABLE", (content, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["code"], content


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/messages/cancel", MESSAGE_FILTER),
        ("/messages/retry", MESSAGE_FILTER),
        ("/queues/message:send/retry-failed", JOB_FILTER),
    ],
)
async def test_no_odd_value_in_a_filter_is_a_fault_of_ours(
    api: httpx.AsyncClient, path: str, fields: tuple[str, ...]
) -> None:
    for name in fields:
        for odd in ODD:
            content = f'{{"filter": {{"{name}": {odd}}}}}'
            answer = await api.post(path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (content, answer.text)


async def test_no_odd_value_in_a_url_is_a_fault_of_ours(api: httpx.AsyncClient) -> None:
    for query in QUERIES:
        for odd in (*ODD, "%ff%fe", "%ed%a0%80", "..", "%2e%2e%2f", "a" * 5000, "%0d%0aSet-Cookie:x"):
            url = httpx.URL("http://api.test").join(query.format(odd.replace("#", "").strip('"').replace("\\", "%5c")))
            answer = await api.get(url)
            assert answer.status_code < 500, (query, odd, answer.text)
