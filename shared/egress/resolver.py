"""The system's resolver, asked so that a name server that does not answer holds up nobody else."""

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

# Each holds a thread, for up to half a minute when nobody answers.
_AT_ONCE: Final = 128


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Every address of a name or literal, in the order to try them. Raises OSError when there is none.

    A cancellation leaves at once; the lookup itself ends by itself, in its thread.
    """
    try:
        return [ip_address(host)]
    except ValueError:
        return await _lookups().ask(host, port)


class Lookups:
    """At most `at_once` lookups, each in a thread of its own, which no end of the process waits for.

    asyncio's own way has six threads on a small machine, shared with all else that blocks: a few names of a name server
    that swallows questions would take them all.
    """

    def __init__(self, at_once: int = _AT_ONCE, *, look: Callable[..., list[tuple[object, ...]]] | None = None) -> None:
        self._places = threading.Semaphore(at_once)
        self._look = look or socket.getaddrinfo

    async def ask(self, host: str, port: int) -> Sequence[Address]:
        """As `resolve`. Raises gaierror: EAI_AGAIN when too many wait, EAI_MEMORY when there is no thread."""
        if not self._places.acquire(blocking=False):
            raise socket.gaierror(socket.EAI_AGAIN, "too many lookups wait")
        answer: asyncio.Future[Sequence[Address]] = asyncio.get_running_loop().create_future()
        try:
            threading.Thread(target=self._run, args=(host, port, answer), name="resolve", daemon=True).start()
        except RuntimeError:
            self._places.release()
            raise socket.gaierror(socket.EAI_MEMORY, "no thread for a lookup") from None
        return await answer

    def _run(self, host: str, port: int, answer: asyncio.Future[Sequence[Address]]) -> None:
        what: Sequence[Address] | Exception
        try:
            found = self._look(host, port, type=socket.SOCK_STREAM)
            what = list(dict.fromkeys(ip_address(one[4][0]) for one in found))  # type: ignore[index]
        except Exception as error:  # noqa: BLE001 - carried to whoever asked
            what = error
        self._places.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            answer.get_loop().call_soon_threadsafe(_settle, answer, what)


def _settle(answer: asyncio.Future[Sequence[Address]], what: Sequence[Address] | Exception) -> None:
    if answer.done():
        return  # whoever asked has left
    if isinstance(what, Exception):
        answer.set_exception(what)
    else:
        answer.set_result(what)


@functools.cache
def _lookups() -> Lookups:
    return Lookups()
