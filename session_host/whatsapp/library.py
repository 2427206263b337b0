"""Loads neonize into this process, once, with everything that must be set before its import.

The library shares one Go runtime and one event loop among all clients of a process, so it is loaded by the process's
root and handed to each client.
"""

import asyncio
import ctypes
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from session_host.whatsapp.gate import Gate
from shared.domain.errors import Misconfigured

# Points the library at a server that stands in for WhatsApp, and returns the proxy that leads to it. Loads neonize.
Connector = Callable[[str], str]

# Every client keeps one thread for its life; sends, lookups and stops borrow one each, and a client that was stopped
# while it showed a QR code never gives its thread back. With too few threads every call hangs.
_SPARE_THREADS: Final = 32
# What whatsmeow logs before it sends a message whose secret its store refused.
_LOST_TRACE: Final = b"Failed to store message secret key for outgoing message"


@dataclass(slots=True)
class Library:
    """What the clients of this process share."""

    gate: Gate
    proxy_url: str | None
    # Stopped clients too: the Go side may still call back into them, which ends the process when they are gone.
    kept: list[Any] = field(default_factory=list)  # Any: neonize ships no types
    ending: "set[asyncio.Future[None]]" = field(default_factory=set)
    # Called on a thread of the library's, which goes on when it returns.
    on_lost_trace: Callable[[], None] = lambda: None
    leaked: int = 0  # clients that were stopped and have not ended; each holds a thread

    def keep(self, end: Coroutine[Any, Any, None]) -> None:
        """Go on ending a client whose session does not wait for it any more."""
        task = asyncio.ensure_future(end)
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)


def load(*, sessions: int, fake_url: str | None, connector: Connector | None) -> Library:
    """Load neonize on the running loop. Raises Misconfigured when it cannot be loaded here.

    Logging must be set up before: the import gives the root logger a handler when it has none.
    """
    # Without it every message to a person carries a mark that phones show as "AI".
    os.environ["NEONIZE_BOT_TAG"] = "off"  # noqa: TID251 - the Go library reads it when it loads
    proxy_url = None
    if fake_url is not None:
        if connector is None:
            raise Misconfigured(
                "ZAPHUB_FAKE_WHATSAPP_URL is set, but this program was not told how to reach such a server: "
                "start it with `./zh session-host`, or unset the variable."
            )
        proxy_url = connector(fake_url)
    _import()
    _silence()
    library = Library(gate=Gate(), proxy_url=proxy_url)
    _listen(library)
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(max_workers=2 * sessions + _SPARE_THREADS, thread_name_prefix="whatsapp")
    )
    return library


def _import() -> None:
    try:
        _find_magic()
        import_module("neonize.aioze.client")
    except ImportError as error:
        raise Misconfigured(f"neonize cannot be loaded: {error}. Install requirements/session-host.txt.") from error


def _find_magic() -> None:
    """Importing neonize imports `magic`, which wants libmagic; where the system has none, pylibmagic brings one."""
    try:
        import_module("magic")
    except ImportError:
        sys.modules.pop("magic", None)
        import_module("pylibmagic")
        import_module("magic")


def _silence() -> None:
    """The library's own lines hold phone numbers; what matters is told by events."""
    # Else the first connect starts ffmpeg twice, to warn about it, and forgets both processes.
    vars(import_module("neonize.utils.ffmpeg"))["_ffmpeg_checked"] = True
    for name in ("neonize", "whatsmeow", "Whatsmeow"):
        logger = logging.getLogger(name)  # noqa: TID251 - a library's logger, silenced
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def _listen(library: Library) -> None:
    """Hear the one line of the library's log that matters on the thread that logs it: its own reader comes too late."""

    def hear(line: int, size: int) -> None:
        if line and size > 0 and _LOST_TRACE in ctypes.string_at(line, size):
            library.on_lost_trace()

    vars(import_module("neonize.aioze.client"))["log_whatsmeow"] = hear
