"""The command `./zh demo`: its options, its folder, its signals and its exit code."""

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from local.data_dir import DataDir
from local.demo import sink
from local.demo.errors import DemoStopped
from local.demo.running import Running, running
from local.demo.screen import Screen
from local.demo.story import Story, new_secret
from local.demo.tour import Tour
from local.interruption import stop_signals

_HELD, _DID_NOT_HOLD, _NOT_HERE, _INTERRUPTED = 0, 1, 2, 130
_HERE = "Postgres, Valkey, the API, a worker, the session host and a fake WhatsApp server"
_AS_LAMBDA = (
    "Postgres, an SQS, the API and the functions in a local Lambda, the session host and a fake WhatsApp server"
)
_REQUEST_TIMEOUT_S = 40  # longer than the wait for a QR code


@dataclass(frozen=True, slots=True)
class _Options:
    data_dir: Path | None
    keep: bool
    tour: bool
    use_lambda: bool


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 when its table holds, 1 when not, 2 when this machine or version cannot, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    if sys.platform != "linux":
        sys.stderr.write(
            f"zh: demo needs Linux, and this is {sys.platform}: the way from the WhatsApp library to the fake server, "
            "and the death of children with their parent, exist there only. In a Linux container or WSL it runs.\n"
        )
        return _NOT_HERE
    folder = Path(tempfile.mkdtemp(prefix="zaphub-demo-"))
    data_dir = (options.data_dir or folder / "data").resolve()
    screen = Screen()
    code = _DID_NOT_HOLD
    try:
        wanted = _Options(data_dir, options.keep, options.tour, options.use_lambda)
        code = asyncio.run(_demo(wanted, folder, data_dir, screen))
    finally:
        if code == _DID_NOT_HOLD:
            screen.say(f"logs: {folder / 'up.log'}, and one file a part in {data_dir / 'logs'}")
        else:
            DataDir(folder / "data").remove()
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zh demo",
        allow_abbrev=False,
        description="See ZapHub work against a fake WhatsApp server, on this machine only, with a worker killed on the "
        "way. Exit code 0 only if nothing was lost or doubled.",
    )
    parser.add_argument("--keep", action="store_true", help="leave it running at the end, until Ctrl-C")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the data there; a temporary folder unless set")
    parser.add_argument("--tour", action="store_true", help="then send and receive every type, and show a table of it")
    parser.add_argument(
        "--lambda",
        dest="use_lambda",
        action="store_true",
        help="run the API and the functions in a local Lambda, on SQS",
    )
    return parser


async def _demo(options: _Options, folder: Path, data_dir: Path, screen: Screen) -> int:
    loop = asyncio.get_running_loop()
    telling = asyncio.ensure_future(_told(options, folder, data_dir, screen))
    for number in stop_signals():
        loop.add_signal_handler(number, telling.cancel)
    try:
        return await telling
    except asyncio.CancelledError:
        return _INTERRUPTED
    except DemoStopped as reason:
        screen.say(str(reason), good=False)
    except httpx.TransportError as error:
        screen.say(f"A server stopped answering: {error!r}", good=False)
    return _DID_NOT_HOLD


async def _told(options: _Options, folder: Path, data_dir: Path, screen: Screen) -> int:
    async with AsyncExitStack() as held:
        receiver = await held.enter_async_context(sink.listening(new_secret()))
        held.callback(lambda: screen.say("everything is stopped"))
        screen.say(f"starting {_AS_LAMBDA if options.use_lambda else _HERE}")
        started = running(
            data_dir=data_dir,
            ready_file=folder / "ready.json",
            log=folder / "up.log",
            options=["--lambda"] if options.use_lambda else [],
        )
        zaphub = await held.enter_async_context(started)
        about = zaphub.about()
        screen.say(f"ready: {about['api_url']}", good=True)
        key = {"Authorization": f"Bearer {about['api_key']}"}
        api = await held.enter_async_context(_client(about["api_url"], key))
        fake = await held.enter_async_context(_client(about["fake_whatsapp_url"], {}))
        story = Story(api, fake, zaphub, receiver, screen, is_lambda=options.use_lambda)
        found = await story.tell()
        screen.table(found)
        holds = found.holds
        if options.tour:
            screen.say("the tour: every type, sent and received")
            visits = await Tour(api, fake, receiver, story.connection_id, story.phone, story.people[0]).walk()
            screen.tour(visits)
            holds = holds and all(one.holds for one in visits)
        if options.keep:
            await _keep(zaphub, screen)
        return _HELD if holds else _DID_NOT_HOLD


def _client(url: str, headers: dict[str, str]) -> httpx.AsyncClient:
    # Both are on this machine: no proxy of the environment comes between.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=_REQUEST_TIMEOUT_S, trust_env=False)


async def _keep(zaphub: Running, screen: Screen) -> None:
    about = zaphub.about()
    for name in ("api_url", "fake_whatsapp_url", "database_url", "redis_url", "api_key"):
        screen.console.print(f"{name.replace('_', ' '):>18}  {about[name]}", soft_wrap=True)
    screen.console.print("Ctrl-C stops everything.")
    # Ctrl-C is the way to end this: the exit code stays that of the table.
    with contextlib.suppress(asyncio.CancelledError):
        await zaphub.process.wait()
