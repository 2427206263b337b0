"""`/webhooks`: endpoints made, shown, changed and forgotten; what is refused, and what a limited key sees."""

import json
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from api import webhooks as logic
from api.webhook_shapes import NewWebhook, RotatedSecret, Webhook
from shared.db.pool import Connection
from shared.sealing import Sealer
from shared.settings import Settings
from shared.webhooks.endpoints import open_keyring
from tests.integration.api.conftest import Ledger
from tests.integration.api.test_odd_values import ODD

URL = "https://192.0.2.1/hook"  # the settings of these tests allow its network
SECRET = "whsec_" + "QUJD" * 10
FIELDS: Final[dict[str, Any]] = {"url": URL, "events": ["*"], "connection_ids": None, "headers": {}, "order": "chat"}


async def make(api: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await api.post("/webhooks", json={"url": URL, "events": ["message.*"], **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def key_of(api: httpx.AsyncClient, *scopes: str, connection_ids: list[str] | None = None) -> dict[str, str]:
    answer = await api.post("/api-keys", json={"name": "k", "scopes": scopes, "connection_ids": connection_ids})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['key']}"}


async def connection_of(api: httpx.AsyncClient, **fields: object) -> str:
    answer = await api.post("/connections", json={"label": "Shop", **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["connection"]["id"])


async def test_an_endpoint_is_made_shown_changed_and_forgotten(api: httpx.AsyncClient) -> None:
    made = await make(api, headers={"Authorization": "Bearer hunter2"})
    path = f"/webhooks/{made['id']}"

    shown = (await api.get(path)).json()
    changed = await api.patch(
        path, json={"events": ["*"], "headers": {"X-Team": "a"}, "url": URL + "/2", "order": "chat"}
    )
    deleted = await api.delete(path)

    NewWebhook.model_validate(made)
    Webhook.model_validate(shown)
    assert {**shown, "secret": made["secret"]} == made
    assert (shown["url"], shown["events"], shown["connection_ids"]) == (URL, ["message.*"], None)
    assert (shown["header_names"], shown["enabled"]) == (["Authorization"], True)
    assert (changed.json()["events"], changed.json()["header_names"]) == (["*"], ["X-Team"])
    assert (changed.json()["url"], shown["order"], changed.json()["order"]) == (URL + "/2", "none", "chat")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await api.get(path)).status_code == 404
    assert (await api.delete(path)).status_code == 404
    assert (await api.get("/webhooks")).json() == {"data": [], "next_cursor": None}


async def test_secret_and_header_values_are_shown_once_or_never_and_encrypted_at_rest(
    api: httpx.AsyncClient, database: Connection
) -> None:
    made = await make(api, headers={"Authorization": "Bearer hunter2"})
    brought = await make(api, secret=SECRET)

    path = f"/webhooks/{made['id']}"
    later = [
        await api.get(path),
        await api.get("/webhooks"),
        await api.patch(path, json={"events": ["*"]}),
        await api.post(f"{path}/enable"),
    ]
    rows = str(await database.fetch("SELECT to_jsonb(e) AS row FROM webhook_endpoints e"))

    assert made["secret"].startswith("whsec_")
    assert "secret" not in brought
    for answer in later:
        assert answer.status_code == 200
        assert "whsec_" not in answer.text
        assert "hunter2" not in answer.text
    assert made["secret"] not in rows
    assert SECRET not in rows
    assert "hunter2" not in rows


async def test_a_rotated_secret_is_shown_once_and_the_one_before_signs_for_its_grace(
    api: httpx.AsyncClient, database: Connection, settings: Settings
) -> None:
    made = await make(api)
    path = f"/webhooks/{made['id']}/rotate-secret"

    async def valid() -> list[str]:
        row = await database.fetchrow("SELECT id, secrets_encrypted, now() AS now FROM webhook_endpoints")
        assert row is not None
        return open_keyring(Sealer(settings.secret_key), row["id"], row["secrets_encrypted"]).valid(row["now"])

    rotated = await api.post(path)
    both = await valid()
    leaked = await api.post(path, json={"grace_seconds": 0, "secret": SECRET})
    only_new = await valid()

    RotatedSecret.model_validate(rotated.json())
    assert both == [rotated.json()["secret"], made["secret"]]
    assert rotated.json()["secret"] != made["secret"]
    assert "secret" not in leaked.json()
    assert only_new == [SECRET]


async def test_an_idempotency_key_makes_one_endpoint_and_shows_its_secret_once(api: httpx.AsyncClient) -> None:
    body = {"url": URL, "events": ["*"]}
    headers = {"Idempotency-Key": "hook-1"}

    first = await api.post("/webhooks", json=body, headers=headers)
    again = await api.post("/webhooks", json=body, headers=headers)
    other = await api.post("/webhooks", json={**body, "events": ["message.*"]}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert {**again.json(), "secret": first.json()["secret"]} == first.json()
    assert "secret" not in again.json()
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert len((await api.get("/webhooks")).json()["data"]) == 1


async def test_endpoints_are_listed_page_by_page_with_the_connections_own(api: httpx.AsyncClient) -> None:
    first = (await make(api))["id"]
    connection = await connection_of(api, webhook_url=URL)
    last = (await make(api))["id"]

    page = (await api.get("/webhooks?limit=2")).json()
    rest = (await api.get("/webhooks", params={"limit": 2, "cursor": page["next_cursor"]})).json()

    found = page["data"] + rest["data"]
    assert [one["id"] for one in found][::2] == [last, first]
    assert (found[1]["connection_id"], found[1]["events"]) == (connection, ["session.*", "message.*"])
    assert rest["next_cursor"] is None


async def test_a_connections_own_endpoint_moves_and_goes_but_keeps_to_its_connection(api: httpx.AsyncClient) -> None:
    connection = await connection_of(api, webhook_url=URL)
    own = (await api.get("/webhooks")).json()["data"][0]["id"]

    widened = await api.patch(f"/webhooks/{own}", json={"connection_ids": None})
    moved = await api.patch(f"/webhooks/{own}", json={"url": URL + "/2"})
    shown = (await api.get(f"/connections/{connection}")).json()["webhook_url"]
    await api.delete(f"/webhooks/{own}")

    assert (widened.status_code, widened.json()["code"]) == (409, "INVALID_STATE")
    assert moved.json()["url"] == shown == URL + "/2"
    assert (await api.get(f"/connections/{connection}")).json()["webhook_url"] is None


async def test_it_is_disabled_and_enabled_by_hand_and_by_another_url(api: httpx.AsyncClient) -> None:
    path = f"/webhooks/{(await make(api))['id']}"

    disabled = [(await api.post(f"{path}/disable")).json() for _ in range(2)]
    enabled = [(await api.post(f"{path}/enable")).json() for _ in range(2)]
    await api.post(f"{path}/disable")
    moved = (await api.patch(path, json={"url": URL + "/2"})).json()

    assert disabled[0] == disabled[1]
    assert (disabled[0]["enabled"], disabled[0]["disabled_reason"]) == (False, "disabled on request")
    assert enabled[0] == enabled[1]
    assert (enabled[0]["enabled"], enabled[0]["disabled_reason"]) == (True, None)
    assert (moved["enabled"], moved["disabled_reason"]) == (True, None)


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"url": "http://169.254.169.254/latest/meta-data"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": "http://2130706433/"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": "http://[::ffff:a9fe:a9fe]/"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": "http://localhost:6379/"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": "https://192.0.2.1@10.0.0.1/"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": "gopher://192.0.2.1/"}, "/url", "WEBHOOK_TARGET_FORBIDDEN"),
        ({"url": ""}, "/url", "VALIDATION_ERROR"),
        ({"url": None}, "/url", "VALIDATION_ERROR"),
        ({"events": []}, "/events", "VALIDATION_ERROR"),
        ({"events": ["*", "Message sent"]}, "/events/1", "VALIDATION_ERROR"),
        ({"connection_ids": []}, "/connection_ids", "VALIDATION_ERROR"),
        ({"connection_ids": ["00000000-0000-0000-0000-000000000009"]}, "/connection_ids/0", "VALIDATION_ERROR"),
        ({"headers": {"Host": "a"}}, "/headers/Host", "VALIDATION_ERROR"),
        ({"headers": {"webhook-signature": "v1,a"}}, "/headers/webhook-signature", "VALIDATION_ERROR"),
        ({"headers": {"Content-Length": "5"}}, "/headers/Content-Length", "VALIDATION_ERROR"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "/headers/Transfer-Encoding", "VALIDATION_ERROR"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "/headers/X-A", "VALIDATION_ERROR"),
        ({"headers": {"X-A": "ção"}}, "/headers/X-A", "VALIDATION_ERROR"),
        ({"headers": {"a/b": "c"}}, "/headers/a~1b", "VALIDATION_ERROR"),
        ({"headers": {"X-A": 1}}, "/headers/X-A", "VALIDATION_ERROR"),
        ({"headers": {f"X-{number}": "a" for number in range(21)}}, "/headers", "VALIDATION_ERROR"),
        ({"secret": "whsec_short"}, "/secret", "VALIDATION_ERROR"),
        ({"order": "strict"}, "/order", "VALIDATION_ERROR"),
        ({"follow_redirects": True}, "/follow_redirects", "VALIDATION_ERROR"),
    ],
)
async def test_what_may_not_be_is_refused_by_its_place_when_made_and_when_changed(
    api: httpx.AsyncClient, ledger: Ledger, fields: dict[str, Any], pointer: str, code: str
) -> None:
    made = await make(api)
    before = await ledger.rows()

    answers = [await api.post("/webhooks", json={"url": URL, "events": ["*"], **fields})]
    if "secret" not in fields:
        answers.append(await api.patch(f"/webhooks/{made['id']}", json=fields))

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        # A null in a PATCH is refused as a whole.
        assert answer.json()["errors"][0]["pointer"] in {pointer, "" if None in fields.values() else pointer}
    assert await ledger.rows() == before
    assert {**(await api.get(f"/webhooks/{made['id']}")).json(), "secret": made["secret"]} == made


async def test_a_forbidden_target_names_the_setting_and_no_address(api: httpx.AsyncClient) -> None:
    answer = await api.post("/webhooks", json={"url": "http://127.0.0.1:5432/", "events": ["*"]})

    assert "ZAPHUB_WEBHOOK_ALLOW_NETWORKS" in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text


async def test_a_limited_key_sees_and_makes_endpoints_of_its_connections_alone(
    api: httpx.AsyncClient, ledger: Ledger
) -> None:
    own, other = await connection_of(api, webhook_url=URL), await connection_of(api)
    key = await key_of(api, "webhooks:read", "webhooks:write", connection_ids=[own])
    foreign = [
        (await make(api))["id"],
        (await make(api, connection_ids=[other]))["id"],
        (await make(api, connection_ids=[own, other]))["id"],
        str(uuid4()),
    ]

    made = await api.post("/webhooks", json={"url": URL, "events": ["*"], "connection_ids": [own]}, headers=key)
    before = await ledger.rows()
    answers = [
        await api.request(method, f"/webhooks/{one}{tail}", headers=key, json=body)
        for one in foreign
        for method, tail, body in (
            ("GET", "", None),
            ("PATCH", "", {"events": ["*"]}),
            ("DELETE", "", None),
            ("POST", "/rotate-secret", None),
            ("POST", "/enable", None),
            ("POST", "/disable", None),
        )
    ]
    all_of_them = await api.post("/webhooks", json={"url": URL, "events": ["*"]}, headers=key)
    widened = await api.patch(f"/webhooks/{made.json()['id']}", json={"connection_ids": None}, headers=key)
    of_other = await api.patch(f"/webhooks/{made.json()['id']}", json={"connection_ids": [other]}, headers=key)
    of_nobody = await api.patch(f"/webhooks/{made.json()['id']}", json={"connection_ids": [str(uuid4())]}, headers=key)
    listed = (await api.get("/webhooks", headers=key)).json()["data"]

    assert made.status_code == 201
    assert {answer.status_code for answer in answers} == {404}
    assert len({str({**answer.json(), "request_id": None}) for answer in answers}) == 1
    assert (all_of_them.status_code, widened.status_code) == (403, 403)
    assert (of_other.status_code, of_nobody.status_code) == (422, 422)
    assert {**of_other.json(), "request_id": None} == {**of_nobody.json(), "request_id": None}
    assert await ledger.rows() == before
    assert [(one["id"] == made.json()["id"], one["connection_id"]) for one in listed] == [(True, None), (False, own)]


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("webhooks:write", "GET", "/webhooks"),
        ("webhooks:write", "GET", "/webhooks/{id}"),
        ("webhooks:read", "POST", "/webhooks"),
        ("webhooks:read", "PATCH", "/webhooks/{id}"),
        ("webhooks:read", "DELETE", "/webhooks/{id}"),
        ("webhooks:read", "POST", "/webhooks/{id}/rotate-secret"),
        ("webhooks:read", "POST", "/webhooks/{id}/enable"),
        ("webhooks:read", "POST", "/webhooks/{id}/disable"),
        ("connections:write", "POST", "/webhooks"),
    ],
)
async def test_reading_and_writing_want_a_scope_each(
    api: httpx.AsyncClient, ledger: Ledger, scope: str, method: str, path: str
) -> None:
    made = await make(api)
    key = await key_of(api, scope)
    before = await ledger.rows()

    answer = await api.request(
        method, path.format(id=made["id"]), headers=key, json={"url": URL, "events": ["*"]} if method != "GET" else None
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert await ledger.rows() == before


async def test_endpoints_are_bounded_in_number(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "MAX_ENDPOINTS", 2)
    await make(api)
    await connection_of(api, webhook_url=URL)
    second = await make(api)

    third = await api.post("/webhooks", json={"url": URL, "events": ["*"]})
    await api.delete(f"/webhooks/{second['id']}")

    assert (third.status_code, third.json()["code"]) == (409, "INVALID_STATE")
    await make(api)


async def test_every_call_has_a_description_examples_and_its_errors(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    calls = [
        (path, method, call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
        if path.startswith(("/webhooks", "/deliveries"))
    ]

    assert calls
    for path, method, call in calls:
        assert call["summary"], (path, method)
        assert call["description"], (path, method)
        assert {"401", "403", "422", "503"} <= call["responses"].keys(), (path, method)
        assert ("404" in call["responses"]) is ("{" in path), (path, method)
        assert "application/problem+json" in call["responses"]["422"]["content"], (path, method)
    assert document["components"]["schemas"]["CreateWebhook"]["examples"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (
            "POST",
            "/webhooks",
            {"url": URL, "events": ["*"], "connection_ids": None, "headers": {}, "order": "chat", "secret": SECRET},
        ),
        ("PATCH", "/webhooks/{id}", FIELDS),
        ("POST", "/webhooks/{id}/rotate-secret", {"secret": SECRET, "grace_seconds": 1}),
        ("POST", "/webhooks/{id}/replay", {"since": "2026-01-01T00:00:00Z", "until": None, "cursor": None}),
    ],
)
async def test_no_odd_value_is_a_fault_of_ours(
    api: httpx.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    url = path.format(id=(await make(api))["id"])

    for field in (*body, "x"):
        for odd in ODD:
            text = json.dumps({**body, field: "?"}).replace('"?"', odd, 1)
            answer = await api.request(method, url, content=text, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (field, odd, answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json", (field, odd)


@pytest.mark.parametrize("odd", ["%00", "x", "..", "%2e%2e", "00000000-0000-0000-0000-000000000000", "-1", "a" * 300])
async def test_an_odd_id_is_not_found_or_refused(api: httpx.AsyncClient, odd: str) -> None:
    for method, path in (
        ("GET", f"/webhooks/{odd}"),
        ("DELETE", f"/webhooks/{odd}"),
        ("GET", f"/webhooks/{odd}/deliveries"),
        ("POST", f"/webhooks/{odd}/test"),
        ("GET", f"/deliveries/{odd}"),
        ("POST", f"/deliveries/{odd}/redeliver"),
    ):
        answer = await api.request(method, path)

        assert answer.status_code in {404, 405, 422}, (method, path, answer.text)
