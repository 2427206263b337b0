"""A proxy on loopback that asks for a password, writes down who goes where, and leads on to the fake WhatsApp server.

It speaks HTTP CONNECT and SOCKS5 on the same port, as the first byte tells them apart.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

USER, PASSWORD = "user", "pr0xy-s3cr3t"
_SOCKS5 = b"\x05"
_LOGIN = b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass
class Proxy:
    """`seen`: by which protocol somebody with the right password went to which host and port."""

    leads_to: str = ""
    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    serving: set[asyncio.Task[object]] = field(default_factory=set)

    def url(self, scheme: str, *, password: str = PASSWORD) -> str:
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            is_socks = first == _SOCKS5
            target = await (self._socks(reader, writer) if is_socks else self._connect(first, reader, writer))
            if target is not None:
                self.seen.append(("socks5" if is_socks else "http", target))
                await self._tunnel(target, reader, writer, granted=_GRANTED[is_socks])
        writer.close()

    async def _connect(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        if f"Basic {_LOGIN}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return None
        return head.split(" ")[1]

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
        await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\x05\x02")
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        if (user.decode(), password.decode()) != (USER, PASSWORD):
            writer.write(b"\x01\x01")
            return None
        writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        assert kind == 3, "names are resolved by the proxy"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        return f"{host.decode()}:{int.from_bytes(await reader.readexactly(2), 'big')}"

    async def _tunnel(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, granted: bytes
    ) -> None:
        onwards = urlsplit(self.leads_to)
        there, back = await asyncio.open_connection(onwards.hostname, onwards.port)
        back.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        await there.readuntil(b"\r\n\r\n")
        writer.write(granted)
        await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)


_GRANTED = {True: b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", False: b"HTTP/1.1 200 OK\r\n\r\n"}


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while part := await source.read(65_536):
            sink.write(part)
            await sink.drain()
    finally:
        sink.close()


@asynccontextmanager
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy; once its `leads_to` is set, every road leads there."""
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await asyncio.gather(*made.serving, return_exceptions=True)
