"""The server and the neonize process that the wire tests talk to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# More than the 75 s after which the library gives up a send: it then says itself what failed. Linking stores 812 keys
# one by one, which takes a busy machine with a slow disk most of the time.
PATIENCE_S = 90.0

Event = dict[str, Any]


class Server:
    """A fake WhatsApp server in a process of its own, with its control API."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.control_url = ""
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self, *, control_port: int = 0) -> None:
        command = ["-m", "local.fake_whatsapp", "--control-port", str(control_port), "--data-dir", str(self.data_dir)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        self.control_url = json.loads(line)["control_url"]
        self._http = self._http or aiohttp.ClientSession()

    async def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self._process is not None
        self._process.send_signal(sent)
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    async def restart(self, sent: signal.Signals = signal.SIGTERM) -> None:
        await self.stop(sent)
        await self.start(control_port=int(self.control_url.rpartition(":")[2]))

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.stop(signal.SIGKILL)
        if self._http is not None:
            await self._http.close()

    async def call(self, method: str, path: str, **body: object) -> tuple[int, Any]:
        """The status and the JSON of one call."""
        assert self._http is not None
        arguments = {"params": body} if method == "GET" else {"json": body}
        async with self._http.request(method, self.control_url + path, **arguments) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, path: str, **body: object) -> Any:
        status, answer = await self.call("POST", path, **body)
        assert status == 200, (path, status, answer)
        return answer

    async def wire(self, **query: object) -> list[Event]:
        _, answer = await self.call("GET", "/wire", **query)
        rows: list[Event] = answer["data"]
        return rows

    async def session(self, phone: str) -> Event:
        _, answer = await self.call("GET", "/sessions")
        found: Event = next(session for session in answer["data"] if session["phone"] == phone)
        return found

    async def clear_faults(self) -> None:
        await self.call("DELETE", "/faults")


class Neonize:
    """The process with the library: commands go in, answers and events come out."""

    def __init__(self, control_url: str) -> None:
        self._control_url = control_url
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._next_number = 0
        self.events: list[Event] = []

    async def start(self) -> None:
        read_fd, write_fd = os.pipe()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "neonize_process.py"),
            self._control_url,
            str(write_fd),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NEONIZE_BOT_TAG": "off"},  # noqa: TID251 - handed on
            pass_fds=(write_fd,),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(write_fd)
        reader = asyncio.StreamReader(limit=1 << 26)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd))
        self._reading = loop.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said = json.loads(line)
            if "answer" in said:
                self._answers.pop(said["answer"]).set_result(said)
                continue
            async with self._news:
                self.events.append(said)
                self._news.notify_all()

    async def do(self, what: str, **arguments: object) -> Any:
        """Run one command; RuntimeError with the library's own words when it fails."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._next_number += 1
        answer = self._answers[self._next_number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"number": self._next_number, "do": what, **arguments}) + "\n"
        self._process.stdin.write(line.encode())
        async with asyncio.timeout(PATIENCE_S):
            said = await answer
        if "error" in said:
            raise RuntimeError(said["error"])
        return said["result"]

    async def until(self, event: str, *, after: int = 0, where: Callable[[Event], bool] = lambda _: True) -> Event:
        """The first such event from the `after`th one on, waiting for it."""

        def found() -> Event | None:
            return next((said for said in self.events[after:] if said["event"] == event and where(said)), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: found() is not None)
            first = found()
            assert first is not None
            return first

    async def pair(self, server: Server, name: str, phone: str, db: Path) -> Event:
        """Link a new session by QR, and wait until it is online."""
        start = len(self.events)
        await self.do("open", name=name, db=str(db))
        shown = await self.until("qr", after=start, where=lambda said: said["name"] == name)
        await server.post("/scan", qr=shown["code"], phone=phone)
        return await self.until_online(name, after=start)

    async def until_online(self, name: str, *, after: int = 0) -> Event:
        """Wait until a session is paired and connected, and return who it is."""
        paired = await self.until("paired", after=after, where=lambda said: said["name"] == name)
        await self.until("connected", after=after, where=lambda said: said["name"] == name)
        return paired

    async def close(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[tuple[Server, Neonize]]:
    """Both processes, ended at the end."""
    server = Server(data_dir)
    try:
        await server.start()
        neonize = Neonize(server.control_url)
        await neonize.start()
        try:
            yield server, neonize
        finally:
            await neonize.close()
    finally:
        await server.close()
