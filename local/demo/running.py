"""The ZapHub that the demo looks at: `./zh up` as a child process, in a data folder and an environment of its own."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.child_process import child_command
from local.demo.errors import DemoStopped
from local.environment import CHECKOUT, inherited

_START_TIMEOUT_S = 180  # the first start of all unpacks the embedded servers
_STOP_TIMEOUT_S = 60
_LOOK_EVERY_S = 0.1
_LAST_LINES = 15
# The sink listens on loopback, and a demo at 80 messages a minute would take half of one.
_SETTINGS = {"ZAPHUB_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8", "ZAPHUB_SEND_RATE_PER_MINUTE": "0"}


@dataclass(frozen=True, slots=True)
class Running:
    """A ZapHub that was ready once; the ready file says where it is and follows its pids."""

    process: asyncio.subprocess.Process
    ready_file: Path

    def about(self) -> dict[str, Any]:
        """What the ready file says now; Any: it is JSON, described in the contract."""
        found: dict[str, Any] = json.loads(self.ready_file.read_text(encoding="utf-8"))
        return found

    def pid(self, part: str) -> int | None:
        """The process of this part, or None while it is being restarted."""
        pids: dict[str, int] = self.about()["pids"]
        return pids.get(part)


@asynccontextmanager
async def running(
    *,
    data_dir: Path,
    ready_file: Path,
    log: Path,
    settings: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> AsyncIterator[Running]:
    """Start everything, with a fake WhatsApp server; at the end stop it and wait until no process is left.

    `settings` are more variables for it, and `options` more of `up`. Nothing of the caller's settings reaches it, so
    that a demo never touches a real database or a real account. Raises DemoStopped when it does not get ready.
    """
    try:
        await asyncio.to_thread(data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DemoStopped(f"The data folder cannot be made: {error}. Choose another with --data-dir.") from error
    ours = ["--fake-whatsapp", "--ready-file", str(ready_file), "--data-dir", str(data_dir), "--port", "0"]
    command = child_command([sys.executable, "-m", "local.cli", "up", *ours, *options])
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**_environment(), **(settings or {})},
            # A `.env` lies in the checkout; here there is none.
            cwd=data_dir,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C is for the demo, which then stops the rest in order.
            start_new_session=True,
        )
    try:
        await _until_ready(process, ready_file, log)
        yield Running(process, ready_file)
    finally:
        await _stop(process)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in inherited().items() if not name.upper().startswith("ZAPHUB_")}
    return {**kept, **_SETTINGS, "PYTHONPATH": str(CHECKOUT)}


async def _until_ready(process: asyncio.subprocess.Process, ready_file: Path, log: Path) -> None:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not await asyncio.to_thread(ready_file.exists):
                if process.returncode is not None:
                    output = await asyncio.to_thread(log.read_text, encoding="utf-8", errors="replace")
                    last = output.splitlines()[-_LAST_LINES:]
                    raise DemoStopped(
                        "\n".join([f"ZapHub ended with {process.returncode} before it was ready:", *last])
                    )
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise DemoStopped(f"ZapHub was not ready within {_START_TIMEOUT_S} s.") from None


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    ended = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await asyncio.shield(ended)
    except asyncio.CancelledError:
        # A second Ctrl-C: the second signal tells `up` to stop at once.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await ended
        raise
    except TimeoutError:
        # Its children die with it.
        process.kill()
        await ended
