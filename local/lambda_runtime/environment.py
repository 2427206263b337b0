"""One execution environment: a process with AWS's own runtime client, and the Runtime API that it asks for work.

Facts of the Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import json
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from local.child_process import child_command

# AWS ends an environment that is not ready by then, and starts it once more with the function's own timeout.
INIT_LIMIT_S: Final = 10.0
_API: Final = "/2018-06-01/runtime"
# For a request that hangs when its environment ends; 0 would be for ever.
_HANG_UP_S: Final = 0.1
_MAX_ANSWER: Final = 6 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A function as Terraform would name it: `command` runs AWS's client on the handler."""

    name: str
    command: list[str]
    timeout_s: float
    environment: Mapping[str, str] = field(repr=False)
    memory_mb: int = 512


class InvocationFailed(Exception):
    """The function raised, died or took too long: AWS's error type and what was said."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Environment:
    """One process, which serves one invocation at a time and is stopped (SIGSTOP) between two, as AWS freezes it."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_HANG_UP_S)
        self._process: asyncio.subprocess.Process | None = None
        self._asked = asyncio.Event()
        self._work: asyncio.Queue[Any] = asyncio.Queue(1)
        self._answer: asyncio.Future[Any] | None = None
        self._init_error: str | None = None
        self.init_s = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether its process can take another invocation."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process that runs the handler."""
        assert self._process is not None, "it was started"
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it asks for its first invocation. Raises InvocationFailed."""
        began = time.monotonic()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        if not await self._initialized(within_s=INIT_LIMIT_S) and not (
            self._init_error is None and await self._initialized(within_s=self._spec.timeout_s)
        ):
            await self.stop()
            raise InvocationFailed("Runtime.InitError", self._init_error or "not ready in time, or ended before")
        self.init_s = time.monotonic() - began
        self._freeze()

    async def _initialized(self, *, within_s: float) -> bool:
        """Run the process until it asks for work, or is ended."""
        port = self._runner.addresses[0][1]
        variables = {
            **self._spec.environment,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": self._spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._spec.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        }
        # Killed with us: a process that is frozen hears of no gentler signal.
        command = child_command(self._spec.command, death_signal=signal.SIGKILL)
        self._process = await asyncio.create_subprocess_exec(*command, env=variables, stdin=asyncio.subprocess.DEVNULL)
        if await self._first(self._asked.wait(), self._process.wait(), within_s=within_s):
            return True
        self._signal(signal.SIGKILL)
        await self._process.wait()
        return False

    async def invoke(self, event: Any) -> Any:  # noqa: ANN401 - JSON, both ways
        """Hand over one event and return the handler's answer. Raises InvocationFailed; the process may be gone."""
        assert self._process is not None, "it was started"
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.clear()
        self._work.put_nowait(event)
        self._signal(signal.SIGCONT)
        if not await self._first(self._answer, self._process.wait(), within_s=self._spec.timeout_s):
            has_ended = self._process.returncode is not None
            await self.stop()
            if has_ended:
                raise InvocationFailed("Runtime.ExitError", f"exit status {self._process.returncode}")
            raise InvocationFailed("Sandbox.Timedout", f"Task timed out after {self._spec.timeout_s:.2f} seconds")
        # It asks for the next one before it is frozen, as its answer is still on its way through its own client.
        if not await self._first(self._asked.wait(), self._process.wait(), within_s=INIT_LIMIT_S):
            await self.stop()
        self._freeze()
        return self._answer.result()

    async def stop(self) -> None:
        """Kill the process, as AWS does with one that it needs no more."""
        if self.is_alive:
            self._signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        await self._runner.cleanup()

    def _freeze(self) -> None:
        if self.is_alive and self._work.empty():
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)

    @staticmethod
    async def _first(wanted: Any, end: Any, *, within_s: float) -> bool:  # noqa: ANN401 - awaitables of any kind
        """Whether `wanted` came within the time and before `end`. A future is left as it is."""
        wanted, end = asyncio.ensure_future(wanted), asyncio.ensure_future(end)
        done, _ = await asyncio.wait({wanted, end}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if wanted not in done:
            wanted.cancel()
        return wanted in done

    # ---- the Runtime API

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_ANSWER)
        app.router.add_get(f"{_API}/invocation/next", self._next)
        app.router.add_post(f"{_API}/invocation/{{id}}/response", self._response)
        app.router.add_post(f"{_API}/invocation/{{id}}/error", self._error)
        app.router.add_post(f"{_API}/init/error", self._failed_init)
        return app

    async def _next(self, _request: web.Request) -> web.Response:
        self._asked.set()
        event = await self._work.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": str(uuid4()),
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self._spec.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:us-east-1:000000000000:function:{self._spec.name}",
        }
        # AWS's client parses what is called exactly this, without a charset.
        return web.Response(body=json.dumps(event).encode(), content_type="application/json", headers=headers)

    async def _response(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._settle(json.loads(body) if body else None)
        return web.json_response({"status": "OK"}, status=202)

    async def _error(self, request: web.Request) -> web.Response:
        said = await request.json()
        self._settle(InvocationFailed(said.get("errorType", "Unhandled"), said.get("errorMessage", "")))
        return web.json_response({"status": "OK"}, status=202)

    async def _failed_init(self, request: web.Request) -> web.Response:
        said = await request.json()
        self._init_error = f"{said.get('errorType')}: {said.get('errorMessage')}"
        return web.json_response({"status": "OK"}, status=202)

    def _settle(self, answer: Any) -> None:  # noqa: ANN401 - JSON, or a failure
        if self._answer is None or self._answer.done():
            return
        if isinstance(answer, InvocationFailed):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)
