"""Evolution's `instance/*` and `webhook/*`: what they make of connections, keys and endpoints, and who may."""

import asyncio
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from tests.integration.compat.conftest import EVOLUTION, Ledger, client_of

HOOK = "https://192.0.2.7/hook"
SETTINGS = {"enabled": True, "url": HOOK, "byEvents": False, "base64": False}
CREATE = {"instanceName": "loja1", "integration": "WHATSAPP-BAILEYS", "qrcode": False}
PROXY = {"proxyHost": "192.0.2.9", "proxyPort": "80", "proxyProtocol": "http"}


async def endpoints(database: Connection) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "SELECT url, events, connection_ids, payload_format, enabled, headers FROM webhook_endpoints "
        "WHERE deleted_at IS NULL ORDER BY created_at"
    )
    return [dict(row) for row in rows]


async def test_an_instance_is_a_connection_with_its_name_as_external_id(
    evolution: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    answer = await evolution.post("/instance/create", json=CREATE)

    assert answer.status_code == 201, answer.text
    body = answer.json()
    [shown] = (await api.get("/connections", params={"external_id": "loja1"})).json()["data"]
    assert body["instance"] == {
        "instanceName": "loja1",
        "instanceId": shown["id"],
        "integration": "WHATSAPP-BAILEYS",
        "webhookWaBusiness": None,
        "accessTokenWaBusiness": "",
        "status": "connecting",
    }
    assert shown["config"] == {}
    assert "qrcode" not in body


async def test_its_settings_and_its_proxy_are_those_of_the_connection(
    evolution: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    asked = {"rejectCall": True, "msgCall": "Escreva, por favor.", "groupsIgnore": True, "alwaysOnline": True}
    proxy = {"proxyHost": "192.0.2.9", "proxyPort": "1080", "proxyProtocol": "socks5", "proxyUsername": "loja@br"}

    made = await evolution.post(
        "/instance/create", json={**CREATE, **asked, "readMessages": False, **proxy, "proxyPassword": "a:b/c"}
    )
    [listed] = (await evolution.get("/instance/fetchInstances")).json()
    [plain] = (await api.get("/connections", params={"external_id": "loja1"})).json()["data"]

    assert made.status_code == 201, made.text
    assert made.json()["settings"] == {
        **asked,
        "readMessages": False,
        "readStatus": False,
        "syncFullHistory": False,
        "wavoipToken": "",
    }
    assert listed["Setting"] == {"instanceId": plain["id"], **made.json()["settings"]}
    assert listed["Proxy"] == {
        "enabled": True,
        "host": "192.0.2.9",
        "port": "1080",
        "protocol": "socks5",
        "username": "loja@br",
        "password": "***",
        "instanceId": plain["id"],
    }
    assert plain["config"] == {
        "reject_calls": {"enabled": True, "text": "Escreva, por favor."},
        "ignore_groups": True,
        "always_online": True,
        "read_messages": False,
        "proxy": "socks5://loja%40br:***@192.0.2.9:1080",
    }


async def test_a_name_is_given_once(evolution: httpx.AsyncClient, database: Connection) -> None:
    first = await evolution.post("/instance/create", json=CREATE)
    second = await evolution.post("/instance/create", json=CREATE)

    assert (first.status_code, second.status_code) == (201, 403)
    assert second.json()["error"] == "Forbidden"
    assert second.json()["response"]["message"] == ['This name "loja1" is already in use.']
    assert await database.fetchval("SELECT count(*) FROM connections") == 1


async def test_with_an_idempotency_key_a_repeated_create_is_the_same_one(
    evolution: httpx.AsyncClient, database: Connection
) -> None:
    said = {**CREATE, "webhook": SETTINGS}
    headers = {"Idempotency-Key": "create-loja1"}

    first = await evolution.post("/instance/create", json=said, headers=headers)
    # However long ago: the job of the first may have ended by now.
    await database.execute("UPDATE jobs SET state = 'completed', finished_at = now(), dedupe = NULL")
    second = await evolution.post("/instance/create", json=said, headers=headers)

    assert first.json()["instance"] == second.json()["instance"]
    assert second.json()["hash"] is None
    assert await database.fetchval("SELECT count(*) FROM connections") == 1
    assert await database.fetchval("SELECT count(*) FROM api_keys") == 1
    assert len(await endpoints(database)) == 1


async def test_a_webhook_too_many_is_no_name_in_use_and_nothing_is_created(
    evolution: httpx.AsyncClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.MAX_ENDPOINTS", 0)
    before = await ledger.rows()

    answer = await evolution.post("/instance/create", json={**CREATE, "webhook": SETTINGS})

    assert (answer.status_code, answer.json()["response"]["code"]) == (400, "INVALID_STATE")
    assert "webhook endpoints" in answer.json()["response"]["message"][0]
    assert await ledger.rows() == before


async def test_the_hash_is_a_key_of_this_instance_alone_and_ends_with_it(
    evolution: httpx.AsyncClient, api: httpx.AsyncClient, shop: dict[str, Any]
) -> None:
    key = (await evolution.post("/instance/create", json={**CREATE, "instanceName": "loja3"})).json()["hash"]

    async with client_of(api, EVOLUTION, {"apikey": key}) as client:
        own = await client.get("/instance/connectionState/loja3")
        sent = await client.post("/message/sendText/loja3", json={"number": "5511999998888", "text": "oi"})
        foreign = await client.get("/instance/connectionState/loja1")
        listed = await client.get("/instance/fetchInstances")
        another = await client.post("/instance/create", json={**CREATE, "instanceName": "loja4"})
        deleted = await client.delete("/instance/delete/loja3")
        after = await client.get("/instance/connectionState/loja3")

    assert (own.status_code, sent.status_code) == (200, 201)
    assert foreign.status_code == 404
    assert [one["name"] for one in listed.json()] == ["loja3"]
    assert another.status_code == 403
    assert (deleted.status_code, after.status_code) == (200, 401)


async def test_who_may_not_make_keys_gets_no_hash(evolution: httpx.AsyncClient, api: httpx.AsyncClient) -> None:
    made = await api.post("/api-keys", json={"name": "no keys", "scopes": ["connections:write"]})

    async with client_of(api, EVOLUTION, {"apikey": made.json()["key"]}) as client:
        answer = await client.post("/instance/create", json=CREATE)

    assert (answer.status_code, answer.json()["hash"]) == (201, None)


WRONG = [
    ({"qrcode": True}, "instanceName"),
    ({**CREATE, "instanceName": " "}, "instanceName"),
    ({**CREATE, "instanceName": "x" * 101}, "instanceName"),
    ({**CREATE, "integration": "WHATSAPP-BUSINESS"}, "Invalid integration"),
    ({**CREATE, "token": "my-own-token"}, "token"),
    ({**CREATE, **PROXY, "proxyHost": "10.0.0.1"}, "proxyHost"),
    ({**CREATE, "proxyHost": "192.0.2.9"}, "proxyPort"),
    ({**CREATE, **PROXY, "proxyProtocol": "socks4"}, "Invalid proxy"),
    ({**CREATE, **PROXY, "proxyPort": "80@192.0.2.8:80"}, "Invalid proxy"),
    ({**CREATE, **PROXY, "proxyHost": "a@192.0.2.9"}, "Invalid proxy"),
    ({**CREATE, **PROXY, "proxyUsername": "u" * 2048}, "Invalid proxy"),
    ({**CREATE, "rejectCall": "yes"}, "rejectCall"),
    ({**CREATE, "msgCall": "x" * 4097}, "msgCall"),
    ({**CREATE, "msgCall": "💥" * 4096}, "The settings"),
    ({**CREATE, "chatwootAccountId": "1"}, "Chatwoot"),
    ({**CREATE, "rabbitmq": {"enabled": True}}, "rabbitmq"),
    ({**CREATE, "number": "12"}, "number"),
    ({**CREATE, "webhook": {"url": "https://192.0.2.7/", "byEvents": True}}, "byEvents"),
    ({**CREATE, "webhook": {"url": "http://127.0.0.1:1/"}}, "url"),
]


async def test_what_cannot_be_done_is_refused_and_nothing_is_created(
    evolution: httpx.AsyncClient, ledger: Ledger
) -> None:
    before = await ledger.rows()

    for said, names in WRONG:
        answer = await evolution.post("/instance/create", json=said)

        assert answer.status_code == 400, (said, answer.text)
        assert any(names in message for message in answer.json()["response"]["message"]), answer.text
    assert await ledger.rows() == before


@pytest.mark.parametrize(
    ("status", "state"),
    [("connected", "open"), ("qr_pending", "connecting"), ("disconnected", "connecting"), ("logged_out", "close")],
)
async def test_the_state_is_one_of_their_three(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any], status: str, state: str
) -> None:
    await database.execute("UPDATE connections SET status = $1", status)

    answer = await evolution.get("/instance/connectionState/loja1")

    assert answer.json() == {"instance": {"instanceName": "loja1", "state": state}}


async def test_connect_shows_the_code_with_its_image(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    await database.execute(
        "UPDATE connections SET status = 'qr_pending', qr_code = '2@abc', qr_attempt = 2, "
        "qr_expires_at = now() + interval '1 minute'"
    )

    body = (await evolution.get("/instance/connect/loja1")).json()

    assert (body["pairingCode"], body["code"], body["count"]) == (None, "2@abc", 2)
    assert body["base64"].startswith("data:image/png;base64,iVBOR")


async def test_connect_opens_an_instance_that_is_closed_and_leaves_an_open_one_alone(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.compat.evolution.instances._QR_WAIT_S", 0.0)
    await database.execute("UPDATE jobs SET state = 'completed', finished_at = now(), dedupe = NULL")
    await database.execute("UPDATE connections SET status = 'closed', desired = 'offline'")

    opened = await evolution.get("/instance/connect/loja1")
    desired = await database.fetchval("SELECT desired FROM connections")
    jobs = await database.fetchval("SELECT count(*) FROM jobs WHERE state = 'waiting'")
    await database.execute("UPDATE connections SET status = 'connected'")
    connected = await evolution.get("/instance/connect/loja1")

    assert opened.json() == {"pairingCode": None, "code": None, "base64": None, "count": 0}
    assert (desired, jobs) == ("online", 1)
    assert connected.json() == {"instance": {"instanceName": "loja1", "state": "open"}}


async def test_logout_and_restart_want_an_instance_that_is_not_closed(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    await database.execute("UPDATE connections SET status = 'connected'")
    restarted = await evolution.post("/instance/restart/loja1")
    out = await evolution.delete("/instance/logout/loja1")
    closing = await database.fetchval("SELECT data ->> 'reason' FROM jobs WHERE name = 'close-session'")
    await database.execute("UPDATE connections SET status = 'logged_out'")
    again = await evolution.delete("/instance/logout/loja1")

    assert restarted.json() == {"instance": {"instanceName": "loja1", "state": "connecting"}}
    assert out.json() == {"status": "SUCCESS", "error": False, "response": {"message": "Instance logged out"}}
    assert closing == "logout"
    assert (again.status_code, again.json()["response"]["message"]) == (
        400,
        ['The "loja1" instance is not connected'],
    )


async def test_a_deleted_instance_gives_its_name_back(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    deleted = await evolution.delete("/instance/delete/loja1")
    gone = await evolution.get("/instance/connectionState/loja1")
    anew = await evolution.post("/instance/create", json=CREATE)

    assert deleted.json() == {"status": "SUCCESS", "error": False, "response": {"message": "Instance deleted"}}
    assert gone.status_code == 404
    assert anew.status_code == 201
    assert anew.json()["instance"]["instanceId"] != shop["id"]


async def test_fetch_instances_lists_what_the_key_may_see(
    evolution: httpx.AsyncClient, api: httpx.AsyncClient, shop: dict[str, Any], limited: str
) -> None:
    everything = (await evolution.get("/instance/fetchInstances")).json()
    by_name = (await evolution.get("/instance/fetchInstances", params={"instanceName": "loja1"})).json()
    by_id = (await evolution.get("/instance/fetchInstances", params={"instanceId": shop["id"]})).json()
    nobody = await evolution.get("/instance/fetchInstances", params={"instanceName": "loja9"})
    async with client_of(api, EVOLUTION, {"apikey": limited}) as client:
        own = (await client.get("/instance/fetchInstances")).json()
        foreign = await client.get("/instance/fetchInstances", params={"instanceName": "loja1"})

    assert [one["name"] for one in everything] == ["loja2", "loja1"]
    assert by_name == by_id
    assert (by_name[0]["id"], by_name[0]["connectionStatus"], by_name[0]["token"]) == (shop["id"], "connecting", None)
    assert [one["name"] for one in own] == ["loja2"]
    assert (nobody.status_code, foreign.status_code) == (404, 404)


async def test_fetch_instances_knows_no_pages(evolution: httpx.AsyncClient, database: Connection) -> None:
    await database.execute(
        "INSERT INTO connections (id, tenant_id, label, external_id) "
        "SELECT gen_random_uuid(), (SELECT id FROM tenants), 'many', 'many-' || n FROM generate_series(1, 401) n"
    )

    names = {one["name"] for one in (await evolution.get("/instance/fetchInstances")).json()}

    assert len(names) == 401


async def test_a_webhook_is_one_endpoint_of_this_instance_in_their_words(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    said = {**SETTINGS, "headers": {"authorization": "Bearer x"}, "events": ["MESSAGES_UPSERT", "PRESENCE_UPDATE"]}

    answer = await evolution.post("/webhook/set/loja1", json={"webhook": said})

    assert answer.status_code == 201, answer.text
    [made] = await endpoints(database)
    assert (made["url"], made["payload_format"]) == (HOOK, "evolution")
    assert [str(one) for one in made["connection_ids"]] == [shop["id"]]
    assert set(made["events"]) == {
        "message.received",
        "message.reaction",
        "message.poll_vote",
        "message.sent",
        "evolution.messages_upsert",
        "evolution.presence_update",
    }
    body = answer.json()
    assert (body["url"], body["enabled"], body["instanceId"]) == (HOOK, True, shop["id"])
    assert body["events"] == ["MESSAGES_UPSERT", "PRESENCE_UPDATE"]
    assert (body["webhookByEvents"], body["webhookBase64"], body["headers"]) == (False, False, None)
    assert (await evolution.get("/webhook/find/loja1")).json() == body


async def test_setting_it_again_changes_the_same_endpoint(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    await evolution.post("/webhook/set/loja1", json={"webhook": {**SETTINGS, "headers": {"X-A": "b"}}})
    moved = {**SETTINGS, "url": "https://192.0.2.8/other", "events": ["CONNECTION_UPDATE"]}
    await evolution.post("/webhook/set/loja1", json={"webhook": moved})
    [changed] = await endpoints(database)
    await evolution.post("/webhook/set/loja1", json={"webhook": {**moved, "enabled": False}})
    [stopped] = await endpoints(database)
    await evolution.post("/webhook/set/loja1", json={"webhook": moved})
    [started] = await endpoints(database)

    assert changed["url"] == "https://192.0.2.8/other"
    assert set(changed["events"]) == {"session.status", "evolution.connection_update"}
    assert list(changed["headers"]) == ["X-A"]
    assert (stopped["enabled"], started["enabled"]) == (False, True)


async def test_two_sets_at_once_make_one_endpoint(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    answers = await asyncio.gather(
        *(evolution.post("/webhook/set/loja1", json={"webhook": SETTINGS}) for _ in range(6))
    )

    assert [one.status_code for one in answers] == [201] * 6
    assert len(await endpoints(database)) == 1


async def test_the_flat_form_of_their_documentation_does_too(
    evolution: httpx.AsyncClient, database: Connection, shop: dict[str, Any]
) -> None:
    flat = {"enabled": True, "url": HOOK, "webhook_by_events": False, "webhook_base64": False, "events": []}

    answer = await evolution.post("/webhook/set/loja1", json=flat)

    assert answer.status_code == 201, answer.text
    assert len(await endpoints(database)) == 1
    assert "MESSAGES_UPSERT" in answer.json()["events"]


async def test_no_webhook_is_null(evolution: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    assert (await evolution.get("/webhook/find/loja1")).json() is None
    off = await evolution.post("/webhook/set/loja1", json={"webhook": {"enabled": False, "url": ""}})
    assert (off.status_code, off.json()["enabled"]) == (201, False)
    assert (await evolution.get("/webhook/find/loja1")).json() is None


WRONG_WEBHOOKS = [
    ({**SETTINGS, "url": ""}, "url"),
    ({**SETTINGS, "url": "http://169.254.169.254/latest"}, "url"),
    ({**SETTINGS, "byEvents": True}, "byEvents"),
    ({**SETTINGS, "base64": True}, "base64"),
    ({**SETTINGS, "events": ["SOMETHING_ELSE"]}, "events"),
    ({**SETTINGS, "headers": {"jwt_key": "secret"}}, "jwt_key"),
    ({**SETTINGS, "headers": {"webhook-id": "x"}}, "headers"),
]


async def test_a_webhook_that_cannot_be_is_refused_and_nothing_changes(
    evolution: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any]
) -> None:
    before = await ledger.rows()

    for said, names in WRONG_WEBHOOKS:
        answer = await evolution.post("/webhook/set/loja1", json={"webhook": said})

        assert answer.status_code == 400, (said, answer.text)
        assert any(names in message for message in answer.json()["response"]["message"]), answer.text
    assert await ledger.rows() == before
