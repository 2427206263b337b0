"""HostClient against hosts that behave badly on the wire: what it says happened, and that it asks once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, cast
from uuid import uuid4

import pytest

from shared.db.hosts import Owner
from shared.db.pool import Pool
from shared.domain.errors import HostUnreachable
from shared.domain.ids import HostId, WireId
from shared.hosts import protocol
from shared.hosts.client import HostClient, HostNotReached, open_http
from shared.hosts.signature import SCHEME

_SENT: Final = protocol.Sent(wire_id=WireId("3EB0"), at=datetime(2026, 1, 1, tzinfo=UTC))
Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int = 200, body: str = _SENT.model_dump_json()) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )


@dataclass
class RawHost:
    """A host whose every answer the test writes, byte for byte; `heads` are the requests' heads."""

    replies: list[Reply]
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    address: str = ""
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = writer
        try:
            while not reader.at_eof() and not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = head.lower().split("content-length:", 1)[1].split("\r\n", 1)[0]
                await reader.readexactly(int(length))
                await self.replies.pop(0)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_host(*replies: Reply) -> AsyncIterator[RawHost]:
    host = RawHost(list(replies))
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with server:
        host.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield host
    for writer in host.serving.values():
        writer.transport.abort()
    await asyncio.gather(*host.serving)


async def says_sent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer())


async def says_sent_and_closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer())
    writer.close()


async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def stops_in_the_middle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer()[:-5])
    writer.close()


async def says_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client hangs up


def says(status: int, body: str) -> Reply:
    async def reply(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status, body))

    return reply


def owner(address: str) -> Owner:
    return Owner(host_id=HostId("a"), address=address, epoch=1, device_jid="5511@s.whatsapp.net", status="connected")


def command() -> protocol.Send:
    return protocol.Send(
        connection_id=uuid4(),
        message_id=uuid4(),
        send_no=1,
        secret=bytes(32),
        epoch=1,
        to="5511999990001@s.whatsapp.net",
        type="text",
        payload={"text": "olá"},
    )


@pytest.fixture
async def client() -> AsyncIterator[HostClient]:
    async with open_http("a-token") as http:
        # No call of these looks for an owner in the database.
        yield HostClient(cast("Pool", None), http, send_timeout_s=5)


async def test_one_connection_serves_call_after_call_each_signed(client: HostClient) -> None:
    async with raw_host(says_sent, says_sent) as host:
        assert await client.send(owner(host.address), command()) == _SENT
        assert await client.send(owner(host.address), command()) == _SENT

    assert host.connections == 1
    assert all(f"Authorization: {SCHEME} " in head for head in host.heads)
    assert not [head for head in host.heads if "a-token" in head], "the token itself is never sent"


async def test_a_kept_connection_that_the_host_closed_is_replaced_and_the_call_goes_through(client: HostClient) -> None:
    async with raw_host(says_sent_and_closes, says_sent_and_closes, says_sent) as host:
        answers = [await client.send(owner(host.address), command()) for _ in range(3)]

    assert answers == [_SENT] * 3
    assert (host.connections, len(host.heads)) == (3, 3)


async def test_a_send_whose_connection_breaks_may_have_left_and_is_not_repeated(client: HostClient) -> None:
    async with raw_host(says_sent, hangs_up, says_sent) as host:
        await client.send(owner(host.address), command())
        with pytest.raises(HostUnreachable) as caught:
            await client.send(owner(host.address), command())

    assert not isinstance(caught.value, HostNotReached)
    assert len(host.heads) == 2


@pytest.mark.parametrize(
    "reply",
    [stops_in_the_middle, says(500, "{}"), says(307, "{}"), says(200, '{"kind": "other"}'), says(200, "no JSON")],
)
async def test_an_answer_that_says_nothing_is_a_send_that_may_have_left(client: HostClient, reply: Reply) -> None:
    async with raw_host(reply, says_sent) as host:
        with pytest.raises(HostUnreachable) as caught:
            await client.send(owner(host.address), command())

    assert not isinstance(caught.value, HostNotReached)
    assert len(host.heads) == 1


async def test_a_host_that_does_not_answer_in_time_may_have_sent(client: HostClient) -> None:
    async with open_http("a-token") as http, raw_host(says_nothing) as host:
        hasty = HostClient(cast("Pool", None), http, send_timeout_s=0.2)
        with pytest.raises(HostUnreachable) as caught:
            await hasty.send(owner(host.address), command())

    assert not isinstance(caught.value, HostNotReached)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid", "no address"])
async def test_a_host_that_cannot_be_connected_to_was_not_reached(client: HostClient, address: str) -> None:
    with pytest.raises(HostNotReached):
        await client.send(owner(address), command())


async def test_a_host_that_is_another_process_by_now_was_not_reached(client: HostClient) -> None:
    async with raw_host(says(404, "404: Not Found")) as host:
        with pytest.raises(HostNotReached, match="another process"):
            await client.send(owner(host.address), command())


async def test_no_proxy_of_the_environment_sees_a_command(client: HostClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_host() as proxy, raw_host(says_sent) as host:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("ALL_PROXY", proxy.address)
        assert await client.send(owner(host.address), command()) == _SENT

    assert proxy.connections == 0
