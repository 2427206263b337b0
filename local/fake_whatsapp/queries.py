"""Answers the questions (`iq` nodes) of a logged-in client."""

from __future__ import annotations

import secrets

from local.fake_whatsapp import groups
from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.media import HOST
from local.fake_whatsapp.phones import ONE_TIME_KEY_IDS, number_of
from local.fake_whatsapp.protocol.node import SERVER, Node

PHONE_DEVICE = Node("device", {"id": "0"})
MEDIA_TTL_S = 3600
PRIVACY = ("readreceipts", "last", "online", "profile", "status", "groupadd", "calladd")


def answer(exchange: Exchange, device: Device, query: Node) -> Node:
    """The result, or an error when the query is one that this server cannot read.

    What the answer promises may still be on its way to the disk: the caller waits before it sends.
    """
    fault = exchange.faults.take_for_query(device.phone) if _asks_about_numbers(query) else None
    if fault is not None:
        return error_to(query, code=fault.code, text="ordered")
    try:
        return _result(query, *_contents(exchange, device, query))
    except groups.NotInGroup:
        return error_to(query, code=403, text="forbidden")
    except (LookupError, ValueError) as error:
        return error_to(query, code=400, text=f"bad-request: {error}")


def error_to(query: Node, *, code: int, text: str) -> Node:
    attrs = {"from": SERVER, "type": "error", "id": query.attrs.get("id", "")}
    return Node("iq", attrs, (Node("error", {"code": str(code), "text": text}),))


def is_logout(query: Node) -> bool:
    return query.child("remove-companion-device") is not None


def _asks_about_numbers(query: Node) -> bool:
    usync = query.child("usync")
    users = usync.require("list").children if usync is not None else ()
    return any(user.child("contact") is not None for user in users)


def _contents(exchange: Exchange, device: Device, query: Node) -> tuple[Node, ...]:
    match query.attrs.get("xmlns"), query.attrs.get("type"):
        case "encrypt", "set" if query.child("list"):
            return _keep_keys(exchange, device, query)
        case "encrypt", "get" if query.child("count"):
            return (Node("count", {"value": str(exchange.devices.one_time_keys_left(device.phone))}),)
        case "encrypt", "get" if query.child("key"):
            return (Node("list", {}, tuple(_bundles(exchange, query.require("key")))),)
        case "usync", _:
            users = query.require("usync").require("list").children
            return (Node("usync", {}, (Node("list", {}, tuple(_user(exchange, device, user) for user in users)),)),)
        case "w:m", _:
            ttl = str(MEDIA_TTL_S)
            attrs = {"auth": "loopback", "ttl": ttl, "auth_ttl": ttl, "max_buckets": "12"}
            return (Node("media_conn", attrs, (Node("host", {"hostname": HOST}),)),)
        case "privacy", "get":
            return (Node("privacy", {}, tuple(Node("category", {"name": n, "value": "all"}) for n in PRIVACY)),)
        case "w:g2", "get" if query.child("query"):
            return (groups.describe(exchange, device, query.jid("to")),)
        case "w:g2", "get":
            return (Node("groups", {}, ()),)
        case "md", _ if is_logout(query):
            exchange.devices.unlink(device.phone)
    # An empty result is what the other questions of a linked device are content with.
    return ()


def _keep_keys(exchange: Exchange, device: Device, query: Node) -> tuple[Node, ...]:
    one_time = [_public_key(key) for key in query.require("list").children]
    exchange.devices.add_keys(device.phone, signed=_public_key(query.require("skey")), one_time=one_time)
    return ()


def _public_key(key: Node) -> tuple[int, bytes]:
    return int.from_bytes(key.require("id").data, "big"), key.require("value").data


def _bundles(exchange: Exchange, wanted: Node) -> list[Node]:
    """Keys of phones. The client's own device is not among them: it has no need to write to itself."""
    users = [user.jid("jid") for user in wanted.children]
    return [
        exchange.contacts.phone(number_of(jid)).bundle(jid, one_time_id=secrets.randbelow(ONE_TIME_KEY_IDS))
        for jid in users
        if jid.device == 0
    ]


def _user(exchange: Exchange, device: Device, user: Node) -> Node:
    asked = user.child("contact")
    if asked is not None and "jid" not in user.attrs:
        # As WhatsApp answers clients of these days: by the alias, with the number as it is registered beside it.
        contact = exchange.contacts.found(asked.data.decode().partition("@")[0].lstrip("+"))
        phone = exchange.contacts.phone(contact.phone)
        found = Node("contact", {"type": "in" if contact.on_whatsapp else "out"}, asked.data)
        named = {"jid": phone.lid, "pn_jid": phone.jid} if contact.on_whatsapp else {"jid": phone.jid}
        return Node("user", named, (found,))

    jid = user.jid("jid")
    number = number_of(jid)
    if not exchange.contacts.get(number).on_whatsapp:
        return Node("user", {"jid": jid}, (Node("contact", {"type": "out"}),))
    devices = [PHONE_DEVICE]
    if number == device.phone:
        devices.append(Node("device", {"id": str(device.number), "key-index": "1"}))
    return Node(
        "user",
        {"jid": jid},
        (
            Node("devices", {}, (Node("device-list", {}, tuple(devices)),)),
            Node("lid", {"val": exchange.contacts.phone(number).lid}),
            Node("contact", {"type": "in"}),
        ),
    )


def _result(query: Node, *contents: Node) -> Node:
    return Node("iq", {"from": SERVER, "type": "result", "id": query.attrs.get("id", "")}, contents or None)
