"""The doors open nothing more than a key opens: call by call, and one that is not in the table fails."""

import subprocess
import sys
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from api.compat.cloud.router import router as cloud_router
from api.compat.evolution.router import ROUTERS
from shared.settings import CompatDoor, Settings
from tests.integration.api.conftest import running
from tests.integration.compat.conftest import CLOUD, EVOLUTION, Ledger, client_of

NUMBER = "5511999998888"
KEY = {"remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": False, "id": "3EB0AAAA"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
READS, WRITES = "connections:read", "connections:write"
SENDS, HOOKS = "messages:write", "webhooks:write"

# Every call of Evolution's door about one instance: what it takes, and the scope without which it is a 403.
CALLS: dict[tuple[str, str], tuple[Any, str]] = {
    ("GET", "/instance/connect/{instance}"): (None, WRITES),
    ("GET", "/instance/connectionState/{instance}"): (None, READS),
    ("POST", "/instance/restart/{instance}"): (None, WRITES),
    ("DELETE", "/instance/logout/{instance}"): (None, WRITES),
    ("DELETE", "/instance/delete/{instance}"): (None, WRITES),
    ("POST", "/message/sendText/{instance}"): ({"number": NUMBER, "text": "oi"}, SENDS),
    ("POST", "/message/sendMedia/{instance}"): ({"number": NUMBER, "mediatype": "image", "media": PNG}, SENDS),
    ("POST", "/message/sendWhatsAppAudio/{instance}"): ({"number": NUMBER, "audio": PNG}, SENDS),
    ("POST", "/message/sendSticker/{instance}"): ({"number": NUMBER, "sticker": PNG}, SENDS),
    ("POST", "/message/sendLocation/{instance}"): ({"number": NUMBER, "latitude": 1, "longitude": 2}, SENDS),
    ("POST", "/message/sendContact/{instance}"): (
        {"number": NUMBER, "contact": [{"fullName": "Ana", "phoneNumber": NUMBER}]},
        SENDS,
    ),
    ("POST", "/message/sendReaction/{instance}"): ({"key": KEY, "reaction": "🚀"}, SENDS),
    ("POST", "/message/sendPoll/{instance}"): (
        {"number": NUMBER, "name": "?", "selectableCount": 1, "values": ["a", "b"]},
        SENDS,
    ),
    ("POST", "/message/{kind}/{instance}"): ({"number": NUMBER}, SENDS),
    ("POST", "/chat/updateMessage/{instance}"): ({"number": NUMBER, "text": "oi", "key": KEY}, SENDS),
    ("DELETE", "/chat/deleteMessageForEveryone/{instance}"): (KEY, SENDS),
    ("POST", "/chat/markMessageAsRead/{instance}"): ({"readMessages": [KEY]}, SENDS),
    ("POST", "/chat/sendPresence/{instance}"): ({"number": NUMBER, "presence": "composing", "delay": 1}, SENDS),
    ("POST", "/chat/whatsappNumbers/{instance}"): ({"numbers": [NUMBER]}, SENDS),
    ("POST", "/chat/getBase64FromMediaMessage/{instance}"): ({"message": {"key": KEY}}, "messages:read"),
    ("POST", "/webhook/set/{instance}"): ({"webhook": {"enabled": True, "url": "https://192.0.2.7/"}}, HOOKS),
    ("GET", "/webhook/find/{instance}"): (None, "webhooks:read"),
}
# Those that name no instance; test_evolution_instances says who may.
OF_NO_INSTANCE = {("POST", "/instance/create"), ("GET", "/instance/fetchInstances"), ("*", "/{path:path}")}
TEXT = {"messaging_product": "whatsapp", "to": NUMBER, "type": "text", "text": {"body": "hi"}}
ALL_SCOPES = [f"{of}:{may}" for of in ("connections", "messages", "webhooks") for may in ("read", "write")]


def calls_of(routers: Any) -> set[tuple[str, str]]:
    found = set()
    for router in routers:
        for route in router.routes:
            methods = {"*"} if len(route.methods) > 1 else route.methods
            found |= {(method, route.path.removeprefix(router.prefix)) for method in methods}
    return found


def path_of(template: str, instance: str) -> str:
    return template.replace("{instance}", instance).replace("{kind}", "sendList")


async def key_with(api: httpx.AsyncClient, scopes: list[str]) -> str:
    key: str = (await api.post("/api-keys", json={"name": "some", "scopes": scopes})).json()["key"]
    return key


def test_every_call_of_the_doors_is_in_the_table() -> None:
    assert calls_of(ROUTERS) == set(CALLS) | OF_NO_INSTANCE
    assert calls_of([cloud_router]) == {
        ("POST", "/{phone_number_id}/messages"),
        ("POST", "/{version}/{phone_number_id}/messages"),
        ("GET", "/{media_id}"),
        ("GET", "/{version}/{media_id}"),
        ("*", "/{path:path}"),
    }


async def test_a_foreign_instance_is_not_there_and_nothing_changes(
    api: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any], limited: str
) -> None:
    before = await ledger.rows()
    async with client_of(api, EVOLUTION, {"apikey": limited}) as client:
        for (method, template), (said, _) in CALLS.items():
            for name in ("loja1", shop["id"], "loja9"):
                answer = await client.request(method, path_of(template, name), json=said)

                assert answer.status_code == 404, (method, template, answer.text)
                assert answer.json()["response"]["message"] == [f'The "{name}" instance does not exist']
    assert await ledger.rows() == before


async def test_each_call_wants_a_key_with_its_scope(
    api: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any]
) -> None:
    lacking = {scope: await key_with(api, [one for one in ALL_SCOPES if one != scope]) for scope in ALL_SCOPES}
    before = await ledger.rows()
    for (method, template), (said, scope) in CALLS.items():
        for headers, status in (({}, 401), ({"apikey": "wrong"}, 401), ({"apikey": lacking[scope]}, 403)):
            async with client_of(api, EVOLUTION, headers) as client:
                answer = await client.request(method, path_of(template, "loja1"), json=said)

            assert answer.status_code == status, (method, template, answer.text)
            assert answer.json()["status"] == status
    assert await ledger.rows() == before


async def test_a_key_of_one_instance_reaches_it_by_either_name(
    api: httpx.AsyncClient, shop: dict[str, Any], limited: str
) -> None:
    [own] = (await api.get("/connections", params={"external_id": "loja2"})).json()["data"]
    async with client_of(api, EVOLUTION, {"apikey": limited}) as client:
        for name in ("loja2", own["id"]):
            assert (await client.get(f"/instance/connectionState/{name}")).status_code == 200
        made = await client.post("/webhook/set/loja2", json={"webhook": {"enabled": True, "url": "https://192.0.2.7/"}})

    assert made.status_code == 201


async def test_the_cloud_door_wants_a_key_with_its_scope_and_knows_no_foreign_number(
    api: httpx.AsyncClient, ledger: Ledger, shop: dict[str, Any], limited: str
) -> None:
    lacking = await key_with(api, [one for one in ALL_SCOPES if one != SENDS])
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.M0VCMEFBQUE="}
    before = await ledger.rows()

    for said in (TEXT, read):
        for key, status, number in ((limited, 400, 100), (lacking, 403, 10), ("wrong", 401, 190)):
            async with client_of(api, CLOUD, {"Authorization": f"Bearer {key}"}) as client:
                answer = await client.post("/loja1/messages", json=said)

            assert (answer.status_code, answer.json()["error"]["code"]) == (status, number), answer.text
    assert await ledger.rows() == before


async def test_another_tenants_instance_is_not_there(
    evolution: httpx.AsyncClient, cloud: httpx.AsyncClient, database: Any
) -> None:
    await database.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'other')")
    connection_id = await database.fetchval(
        "INSERT INTO connections (id, tenant_id, label, external_id) "
        "SELECT gen_random_uuid(), id, 'theirs', 'theirs' FROM tenants WHERE name = 'other' RETURNING id"
    )
    for name in ("theirs", str(connection_id)):
        state = await evolution.get(f"/instance/connectionState/{name}")
        sent = await cloud.post(f"/{name}/messages", json=TEXT)

        assert (state.status_code, sent.json()["error"]["error_subcode"]) == (404, 33)


@pytest.mark.parametrize(
    ("doors", "statuses"), [([], (404, 404)), (["evolution"], (401, 404)), (["cloud"], (404, 401))]
)
async def test_a_door_that_is_left_out_is_a_path_that_is_not_there(
    settings: Settings, doors: list[str], statuses: tuple[int, int]
) -> None:
    async with running(settings.model_copy(update={"compat": [CompatDoor(one) for one in doors]}), key=None) as api:
        evolution = await api.get("/compat/evolution/instance/fetchInstances")
        cloud = await api.post("/compat/cloud/v21.0/1/messages", json=TEXT)

    assert (evolution.status_code, cloud.status_code) == statuses


@pytest.mark.parametrize(
    ("given", "doors"),
    [("none", []), ("cloud", ["cloud"]), ("evolution, cloud", ["evolution", "cloud"])],
)
def test_the_setting_names_the_doors(settings: Settings, given: str, doors: list[str]) -> None:
    read = Settings(_env_file=None, database_url=settings.database_url, secret_key=settings.secret_key, compat=given)

    assert read.compat == doors


def test_a_door_that_there_is_not_stops_the_start() -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, database_url="postgresql://x/y", secret_key="a-secret-key-for-tests", compat="waha")


def test_without_a_door_none_of_its_code_is_loaded() -> None:
    asked = "import sys, api.app; print([one for one in sys.modules if one.startswith('api.compat.')])"

    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "['api.compat.mounting']"


async def test_a_browser_client_of_evolution_may_give_its_key(settings: Settings) -> None:
    origin = "https://crm.example"
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "apikey"}
    async with running(settings.model_copy(update={"cors_origins": [origin]}), key=None) as api:
        answer = await api.options("/compat/evolution/message/sendText/loja1", headers=asks)

    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == origin


async def test_our_openapi_document_has_none_of_their_calls(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    assert not [path for path in document["paths"] if path.startswith("/compat")]
