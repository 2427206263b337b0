"""What `config` says, as WhatsApp's side sees it: the proxy's log, rejected calls, presence, read receipts."""

from typing import Any

import pytest

from tests.e2e.conftest import until
from tests.wire.config.conftest import CONTACT, PHONE, Shop
from tests.wire.config.proxy_server import PASSWORD

pytestmark = [pytest.mark.wire, pytest.mark.timeout(300)]

SOCKET = "web.whatsapp.com:443"
GROUP, STATUS, CHANNEL = "120363000000000777@g.us", "status@broadcast", "120363000000000778@newsletter"


async def test_socket_and_media_go_through_the_proxy_and_a_change_of_it_reconnects(shop: Shop) -> None:
    assert shop.proxy.seen[0] == ("http", SOCKET)
    assert (await shop.shown())["config"]["proxy"] == shop.proxy.url("http", password="***")

    linked = {host for _, host in shop.proxy.seen}
    assert await shop.fetched(await shop.writes_a_file(b"from a contact")) == b"from a contact"
    assert {host for _, host in shop.proxy.seen} - linked, "the file came through it"
    await shop.send("document", {"base64": "aGVsbG8=", "filename": "a.txt", "mimetype": "text/plain"})
    assert {host for _, host in shop.proxy.seen} > {SOCKET}

    begun = len(shop.proxy.seen)
    await shop.stack.api.patch(shop.path, json={"config": {"proxy": shop.proxy.url("socks5")}})
    await until(lambda: _is_seen(shop, ("socks5", SOCKET), begun), within_s=60, what="the socket goes another way")
    await shop.until_status("connected")
    await shop.send("text", {"text": "by socks"})
    await shop.send("document", {"base64": "aGVsbG8=", "filename": "b.txt", "mimetype": "text/plain"})
    assert {way for way, _ in shop.proxy.seen[begun:]} == {"socks5"}

    events = (await shop.stack.api.get("/events", params={"connection_id": shop.id, "limit": 200})).json()["data"]
    lost = [one for one in events if one["type"] == "session.disconnected"]
    assert lost[0]["payload"]["status_reason"] == "proxy_changed"


async def test_a_trial_says_whether_whatsapp_is_reachable_and_why_not(shop: Shop) -> None:
    reached = await shop.stack.api.post(f"{shop.path}/proxy/test")
    assert reached.status_code == 200, reached.text
    assert (reached.json()["reachable"], reached.json()["trouble"]) == (True, None)
    assert PASSWORD not in reached.text

    other = (await shop.stack.api.post("/connections", json={"label": "other"})).json()["connection"]["id"]
    tried = {}
    for name, proxy in {
        "none": None,
        "wrong password": shop.proxy.url("http", password="wrong"),
        "wrong password, socks": shop.proxy.url("socks5", password="wrong"),
        "nobody there": "http://127.0.0.1:9",
    }.items():
        config = {} if proxy is None else {"proxy": proxy}
        assert (await shop.stack.api.patch(f"/connections/{other}", json={"config": config})).status_code == 200
        answer = (await shop.stack.api.post(f"/connections/{other}/proxy/test")).json()
        tried[name] = (answer["reachable"], (answer["trouble"] or "").partition(":")[0])
    await shop.stack.api.delete(f"/connections/{other}")

    assert tried == {
        "none": (True, ""),
        "wrong password": (False, "The proxy refused"),
        "wrong password, socks": (False, "The proxy refused"),
        "nobody there": (False, "No connection"),
    }


async def test_a_proxy_that_is_gone_is_not_gone_around(shop: Shop) -> None:
    await shop.until_status("connected")
    before = await _connects(shop)
    await shop.stack.api.patch(shop.path, json={"config": {"proxy": "http://127.0.0.1:9"}})

    tried = await until(lambda: _fails(shop), within_s=60, what="it tried to connect and could not")
    assert tried[-1]["proxy"] == "http://127.0.0.1:9"
    assert (await _connects(shop), (await shop.shown())["status"] != "connected") == (before, True)

    await shop.stack.api.patch(shop.path, json={"config": {"proxy": shop.proxy.url("socks5")}})
    await shop.until_status("connected")
    assert await _connects(shop) == before + 1


async def test_ignored_chats_stay_out_until_they_are_asked_for(shop: Shop) -> None:
    await shop.configure(ignore_groups=True)
    ignored = {await shop.writes("ignored", chat=chat) for chat in (GROUP, STATUS, CHANNEL)}
    await until(lambda: _are_counted(shop), within_s=60, what="one of each kind is counted")

    await shop.configure(ignore_status=False, ignore_newsletters=False)
    heard = [await shop.received(await shop.writes("heard", chat=chat)) for chat in (GROUP, STATUS, CHANNEL)]

    assert [one["jid"] for one in heard] == [GROUP, STATUS, CHANNEL]
    assert not ignored & {one["wa_message_id"] for one in await shop.stack.messages(shop.id)}


async def test_a_call_is_declined_and_its_caller_told_once(shop: Shop) -> None:
    await shop.configure()
    unanswered = await _call(shop)
    assert await _events_of(shop, unanswered) == ["call.received"]

    await shop.configure(reject_calls={"enabled": True, "text": "Please write."})
    call = await until(lambda: _declined(shop), within_s=30, what="the host has seen the config")
    await _call(shop, id=call)

    assert (await shop.until_signal("call_rejected", call_id=call))["chat"] == f"{CONTACT}@s.whatsapp.net"
    rows: list[dict[str, Any]] = await until(lambda: _told(shop), within_s=60, what="the caller is told")
    assert len(rows) == 1
    [message] = [one for one in await shop.stack.messages(shop.id) if one["metadata"] == {"call_id": call}]
    assert (message["message_id"], message["source"]) == (f"call-{call}", "api")
    assert {one["call_id"] for one in await shop.signals("call_rejected")} == {call}
    assert await _events_of(shop, call) == ["call.received", "call.rejected"]
    assert await _told(shop) == rows


async def test_presence_follows_the_config_while_it_is_online(shop: Shop) -> None:
    await shop.configure()
    # What a phone tells its devices of itself, some seconds after they were linked.
    await shop.execute("UPDATE whatsmeow.whatsmeow_device SET push_name = 'Shop'")
    await shop.stack.api.post(f"{shop.path}/restart")
    offline = await shop.until_signal("presence", state="unavailable")

    await shop.configure(always_online=True)
    online = await shop.until_signal("presence", after=offline["seq"], state="available")
    await shop.stack.phones.post("/faults", json={"kind": "drop_connection", "session_phone": PHONE})
    again = await shop.until_signal("presence", after=online["seq"], state="available")
    await shop.configure()

    assert (offline["name"], online["name"]) == ("Shop", "Shop")
    await shop.until_signal("presence", after=again["seq"], state="unavailable")


async def test_what_is_stored_is_marked_as_read_when_that_is_wanted(shop: Shop) -> None:
    await shop.until_status("connected")
    await shop.configure()
    unread = await shop.received(await shop.writes("unread"))
    await shop.configure(read_messages=True)

    read = await shop.received(await shop.writes("read"))

    found = await shop.until_signal("read", wire_ids=[read["wa_message_id"]])
    assert found["chat"] == f"{CONTACT}@s.whatsapp.net"
    assert unread["wa_message_id"] not in str(await shop.signals("read"))


async def test_no_log_and_no_event_has_the_proxy_s_password(shop: Shop) -> None:
    written = "".join(
        path.read_text(errors="replace") for path in shop.folder.rglob("*") if path.suffix in {".log", ".jsonl"}
    )
    events = (await shop.stack.api.get("/events", params={"limit": 200})).text

    assert "session_phase_changed" in written
    assert PASSWORD not in written + events


async def _is_seen(shop: Shop, what: tuple[str, str], since: int) -> bool:
    return what in shop.proxy.seen[since:]


async def _connects(shop: Shop) -> int:
    sessions = (await shop.stack.phones.get("/sessions")).json()["data"]
    return int(next(one["connects"] for one in sessions if one["phone"] == PHONE))


async def _fails(shop: Shop) -> list[dict[str, Any]]:
    """The configs of the connection as it was when it could not connect, once that happened twice."""
    query = {"connection_id": shop.id, "type": "session.disconnected", "limit": 200}
    events = (await shop.stack.api.get("/events", params=query)).json()["data"]
    found = [one["payload"] for one in events if one["payload"]["status_reason"] == "library_ended"]
    return [one["config"] for one in found] if len(found) > 1 else []


async def _are_counted(shop: Shop) -> bool:
    metrics = (await shop.stack.api.get("/metrics")).text
    kinds = ("groups", "status", "newsletters")
    return all(f'zaphub_messages_ignored_total{{kind="{kind}"}} 1' in metrics for kind in kinds)


async def _call(shop: Shop, **more: str) -> str:
    answer = await shop.stack.phones.post("/calls", json={"session_phone": PHONE, "from": CONTACT, **more})
    assert answer.is_success, answer.text
    return str(answer.json()["call_id"])


async def _declined(shop: Shop) -> str | None:
    """The id of a new call, if it was declined."""
    call = await _call(shop)
    return call if "call.rejected" in await _events_of(shop, call) else None


async def _events_of(shop: Shop, call: str) -> list[str]:
    async def look() -> list[str]:
        query = {"connection_id": shop.id, "type": "call.*", "limit": 200}
        events = (await shop.stack.api.get("/events", params=query)).json()["data"]
        return [one["type"] for one in events if one["payload"]["call_id"] == call]

    return await until(look, within_s=30, what=f"{call} is told")


async def _told(shop: Shop) -> list[dict[str, Any]]:
    return [one for one in await shop.stack.wire(PHONE) if one["text"] == "Please write."]
