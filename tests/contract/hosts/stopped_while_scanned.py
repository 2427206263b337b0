"""Stops a client while its code is scanned; run with a database and a folder. Ends with 0: the process lived.

A process of its own, which ends with `os._exit`: the thread of that client never comes back.
"""

import asyncio
import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from session_host.whatsapp.port import QrShown
from tests.contract.hosts.client_contract import Watched, paired
from tests.contract.hosts.worlds import World, fake_server_world


async def stop_late(world: World) -> bool:
    """Whether the library said that it has let go of the client."""
    scanned, stopped = threading.Event(), threading.Event()
    bridged = import_module("session_host.whatsapp.bridge").BridgedClient
    told = bridged._NewAClient__onLoginStatus

    def told_late(self: Any, uuid: int, status: int) -> None:
        scanned.set()
        stopped.wait(20)
        told(self, uuid, status)

    bridged._NewAClient__onLoginStatus = told_late
    watched = Watched(world, None)
    await watched.client.start()
    await world.scan((await watched.until(QrShown)).code, "5511988880001")
    await asyncio.to_thread(scanned.wait, 20)
    has_ended = await watched.client.stop(deadline_s=2)
    bridged._NewAClient__onLoginStatus = told
    stopped.set()
    # Long enough for what the library does next, where the process ended.
    await paired(world, "5511988880002")
    return has_ended


async def main() -> None:
    async with fake_server_world(sys.argv[1], Path(sys.argv[2])) as world:
        async with asyncio.timeout(40):
            has_ended = await stop_late(world)
    os._exit(int(has_ended))


if __name__ == "__main__":
    asyncio.run(main())
