"""A listener on loopback that must see nobody: every spelling of an inside address, at every door and in every client.

The positive control is the same list with loopback allowed: then each spelling that leads there connects once.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from shared.egress import resolver
from shared.egress.fetch import FetchFailed, safe_get
from shared.egress.resolver import Lookups
from shared.egress.target import Network, Rule
from shared.settings import Settings
from shared.webhooks.client import Answered, Failed, FailureKind, SafeClient
from tests.integration.webhooks.servers import OK, read_request

ADMIN_KEY = "admin-key-of-the-tests"
LOOPBACK: tuple[Network, ...] = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "0.0.0.0/32", "::/128")))

# Each of these reaches the canary when loopback is allowed.
LEADING_THERE = [
    *["http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/"],
    *["http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0X7F000001:{port}/", "http://0x7f.1:{port}/"],
    *["http://0x7f.0.0.0x1:{port}/", "http://017700000001:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/"],
    *[
        "http://localhost:{port}/",
        "http://LOCALHOST:{port}/",
        "http://127。0。0。1:{port}/",
        "HTTP://127.0.0.1:{port}/",
    ],
    *[
        "http://[::1]:{port}/",
        "http://[0:0:0:0:0:0:0:1]:{port}/",
        "http://[::]:{port}/",
        "http://inside.example:{port}/",
    ],
    *["http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/", "http://inside.example.:{port}/"],
    *["http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/", "http://both-inside.example:{port}/"],
]
# These lead to it by another way than a socket's (a tunnel, a gateway), in part (one address of two), or for a parser
# that reads another host out of them.
LEADING_ELSEWHERE = [
    *["http://[::127.0.0.1]:{port}/", "http://[::ffff:0:127.0.0.1]:{port}/", "http://[64:ff9b::7f00:1]:{port}/"],
    *["http://[64:ff9b:1::7f00:1]:{port}/", "http://[2002:7f00:1::1]:{port}/", "http://[2001:0:7f00:1::1]:{port}/"],
    *["http://[fe80::1]:{port}/", "http://[fe80::1%25lo]:{port}/", "http://[::1%25lo]:{port}/", "http://[fc00::1]/"],
    *["http://[fec0::1]/", "http://[ff02::1]/", "http://169.254.169.254/latest/", "http://[fd00:ec2::254]/latest/"],
    *["http://[::ffff:a9fe:a9fe]/latest/", "http://2852039166/latest/", "http://0xa9fea9fe/", "http://169.254.43518/"],
    *["http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://168.63.129.16/"],
    *["http://mixed.example:{port}/", "http://metadata.google.internal/", "http://127.0.0.1.:{port}/"],
    *["http://example.com@127.0.0.1:{port}/", "http://example.com:80@127.0.0.1:{port}/", "http://@127.0.0.1:{port}/"],
    *[r"http://example.com\@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@example.com/", "http:127.0.0.1:{port}/"],
    *["http://127.0.0.1:{port}%2f@example.com/", "//127.0.0.1:{port}/", "http:///127.0.0.1:{port}/"],
    *[
        "http://0177.0.0.1:{port}/",
        "http://127.0.0.01:{port}/",
        "http://00.00.00.00:{port}/",
        "http://\uff11\uff12\uff17.0.0.1:{port}/",
    ],
    *["http://\u2460\u2461\u2466.0.0.1:{port}/", "http://127.0.0.1%2e:{port}/", "http://127%2e0%2e0%2e1:{port}/"],
    *["http://local\u00adhost:{port}/", "http://\u2113ocalhost:{port}/", "http://[127.0.0.1]:{port}/"],
    *["gopher://127.0.0.1:{port}/_x", "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "unix:///run/x.sock"],
    *["http://127.0.0.1:{port}/\r\nHost: example.com", "http://127.0.0.1:{port}\t/", "http://127.0.0.1 :{port}/"],
]
EVERY = [*LEADING_THERE, *LEADING_ELSEWHERE]


@dataclass
class Canary:
    port: int = 0
    accepts: int = 0


@asynccontextmanager
async def canary_on_loopback() -> AsyncIterator[Canary]:
    """Listens on 127.0.0.1 and ::1 at one port, answers 200 and counts."""
    canary = Canary()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.accepts += 1
        try:
            await read_request(reader)
            await OK(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    first = await asyncio.start_server(count, "127.0.0.1", 0)
    canary.port = first.sockets[0].getsockname()[1]
    async with first, await asyncio.start_server(count, "::1", canary.port):
        yield canary


@pytest.fixture
async def canary(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Canary]:
    names = {
        "inside.example": ["127.0.0.1"],
        "both-inside.example": ["::1", "127.0.0.1"],
        "mixed.example": ["8.8.8.8", "127.0.0.1"],
    }

    def look(host: str, port: int, **how: Any) -> list[tuple[object, ...]]:
        return [
            found for name in names.get(host.rstrip("."), [host]) for found in socket.getaddrinfo(name, port, **how)
        ]

    monkeypatch.setattr(resolver, "_lookups", lambda: Lookups(look=look))
    async with canary_on_loopback() as opened:
        yield opened


@asynccontextmanager
async def api(database_url: str, allow: tuple[Network, ...] = ()) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        db_pool_size=5,
        webhook_allow_networks=list(allow),
    )
    app = create_app(settings)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test", headers=headers) as client,
    ):
        yield client


async def test_no_door_lets_an_inside_url_in_or_connects_to_it(canary: Canary, database_url: str) -> None:
    fine = {"url": "https://192.0.2.1/", "events": ["*"]}
    let_in = []
    async with api(database_url, allow=(ip_network("192.0.2.0/24"),)) as client:
        webhook = (await client.post("/webhooks", json=fine)).json()["id"]
        connection = (await client.post("/connections", json={"label": "a"})).json()["connection"]["id"]
        for template in EVERY:
            url = template.format(port=canary.port)
            doors = [
                await client.post("/webhooks", json=fine | {"url": url}),
                await client.patch(f"/webhooks/{webhook}", json={"url": url}),
                await client.post("/connections", json={"label": "b", "webhook_url": url}),
                await client.patch(f"/connections/{connection}", json={"webhook_url": url}),
            ]
            let_in += [(url, door.status_code) for door in doors if door.status_code != 422]
            assert {door.json()["code"] for door in doors} == {"WEBHOOK_TARGET_FORBIDDEN"}, url
        shown = (await client.get(f"/webhooks/{webhook}")).json()

    assert let_in == []
    assert shown["url"] == fine["url"]
    assert canary.accepts == 0


async def test_the_door_names_the_setting_that_would_allow_it(canary: Canary, database_url: str) -> None:
    async with api(database_url) as client:
        for template in LEADING_THERE:
            url = template.format(port=canary.port)
            answer = await client.post("/webhooks", json={"url": url, "events": ["*"]})
            assert "ZAPHUB_WEBHOOK_ALLOW_NETWORKS" in answer.json()["detail"], url


async def test_no_delivery_connects_to_an_inside_url_that_is_stored_all_the_same(canary: Canary) -> None:
    async with SafeClient(Rule(), timeout_s=5) as client:
        for template in EVERY:
            exchanged = await client.post(template.format(port=canary.port), headers={}, body=b"{}")
            assert isinstance(exchanged, Failed), template
            assert exchanged.kind in {FailureKind.TARGET_FORBIDDEN, FailureKind.NAME_UNRESOLVED}, template

    assert canary.accepts == 0


async def test_no_fetch_of_a_file_connects_to_an_inside_url(canary: Canary) -> None:
    for template in EVERY:
        with pytest.raises(FetchFailed):
            async with safe_get(template.format(port=canary.port), max_bytes=1, deadline_s=5):
                pytest.fail(template)

    assert canary.accepts == 0


async def test_with_loopback_allowed_each_that_leads_there_connects_once(canary: Canary) -> None:
    async with SafeClient(Rule(allow=LOOPBACK), timeout_s=5) as client:
        for number, template in enumerate(LEADING_THERE, 1):
            exchanged = await client.post(template.format(port=canary.port), headers={}, body=b"{}")
            assert isinstance(exchanged, Answered), (template, exchanged)
            assert canary.accepts == number, template


async def test_with_loopback_allowed_a_fetch_and_the_door_let_them_through(canary: Canary, database_url: str) -> None:
    async with api(database_url, LOOPBACK) as client:
        for number, template in enumerate(LEADING_THERE, 1):
            url = template.format(port=canary.port)
            answer = await client.post("/webhooks", json={"url": url, "events": ["*"]})
            async with safe_get(url, max_bytes=2, deadline_s=5, allow_networks=LOOPBACK) as fetched:
                body = b"".join([chunk async for chunk in fetched.chunks])
            assert (answer.status_code, body, canary.accepts) == (201, b"ok", number), url
